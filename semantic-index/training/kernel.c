/* The three loops of training that numpy has no fast form of. Built by train.py with the system's C compiler.
 *
 * A text is a sparse row: table rows `idx` with amounts `amt`. Its vector is sum(amt * w[idx] * E[idx]).
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

void pool(int64_t n, const int64_t *ptr, const int32_t *idx, const float *amt, const float *w, const float *E, int64_t d,
          float *out) {
    for (int64_t i = 0; i < n; i++) {
        float *o = out + i * d;
        memset(o, 0, d * sizeof(float));
        for (int64_t k = ptr[i]; k < ptr[i + 1]; k++) {
            const float f = amt[k] * w[idx[k]];
            const float *e = E + (int64_t)idx[k] * d;
            for (int64_t j = 0; j < d; j++) o[j] += f * e[j];
        }
    }
}

/* Adds the gradient of the rows and of the weights; marks the rows touched. */
void pool_back(int64_t n, const int64_t *ptr, const int32_t *idx, const float *amt, const float *w, const float *E,
               int64_t d, const float *grad, float *gE, float *gw, uint8_t *touched) {
    for (int64_t i = 0; i < n; i++) {
        const float *g = grad + i * d;
        for (int64_t k = ptr[i]; k < ptr[i + 1]; k++) {
            const int64_t r = idx[k];
            const float f = amt[k] * w[r];
            const float *e = E + r * d;
            float *o = gE + r * d;
            float dot = 0;
            for (int64_t j = 0; j < d; j++) {
                o[j] += f * g[j];
                dot += e[j] * g[j];
            }
            gw[r] += amt[k] * dot;
            touched[r] = 1;
        }
    }
}

/* Adam on the touched rows, pulled back to where they started; clears their gradient. */
void adam_rows(int64_t rows, int64_t d, float *E, const float *start, float *gE, float *m, float *v, uint8_t *touched,
               float lr, float pull, float b1, float b2, float c1, float c2) {
    for (int64_t r = 0; r < rows; r++) {
        if (!touched[r]) continue;
        float *e = E + r * d, *g = gE + r * d, *mm = m + r * d, *vv = v + r * d;
        for (int64_t j = 0; j < d; j++) {
            mm[j] = b1 * mm[j] + (1 - b1) * g[j];
            vv[j] = b2 * vv[j] + (1 - b2) * g[j] * g[j];
            e[j] -= lr * ((mm[j] / c1) / (sqrtf(vv[j] / c2) + 1e-8f) + pull * (e[j] - start[r * d + j]));
            g[j] = 0;
        }
        touched[r] = 0;
    }
}
