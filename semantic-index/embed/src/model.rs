//! The model itself: loading it, and texts through it to vectors of bytes.

use std::path::{Path, PathBuf};

use rten::{ModelOptions, NodeId, Value, ValueOrView};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

use crate::limits::{BATCH_TOKENS, MAX_DIMS, MODEL_BYTES, TOKENIZER_BYTES};
use crate::settings::{Pooling, Settings};
use crate::words::Words;
use crate::{Unusable, read};

pub struct Model {
    runtime: rten::Model,
    words: Words,
    settings: Settings,
    inputs: Vec<(NodeId, Input)>,
    output: NodeId,
    /// The output is a vector a text, not one a token.
    pooled: bool,
    id: String,
    dims: usize,
}

#[derive(Clone, Copy)]
enum Input {
    Ids,
    Mask,
    Types,
    Positions,
}

/// What a text is for; some models want to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Question,
    Document,
}

impl Model {
    /// Reads `model.onnx` and `tokenizer.json`, and tries the model once.
    pub fn load(folder: &Path) -> Result<Self, Unusable> {
        let (path, tokenizer) = (weights(folder)?, folder.join("tokenizer.json"));
        if !tokenizer.exists() {
            return Err(Unusable(format!("{} is missing", tokenizer.display())));
        }
        let (bytes, tokenizer) = (read(&path, MODEL_BYTES)?, read(&tokenizer, TOKENIZER_BYTES)?);
        let settings = Settings::read(folder)?;
        let words = Words::parse(&tokenizer)?;
        let mut hasher = blake3::Hasher::new();
        for part in [&bytes[..], &tokenizer, format!("{settings:?}").as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let id = format!("onnx:{}", &hasher.finalize().to_hex()[..16]);
        // From memory: weights in files beside it are not looked for.
        let wrong = |why: String| Unusable(format!("{}: {why}", path.display()));
        let runtime = ModelOptions::with_all_ops().load(bytes).map_err(|e| wrong(e.to_string()))?;
        let mut inputs = Vec::new();
        for node in runtime.input_ids() {
            let name = runtime.node_info(*node).and_then(|n| n.name().map(str::to_owned));
            let input = match name.as_deref().unwrap_or_default() {
                "input_ids" => Input::Ids,
                "attention_mask" => Input::Mask,
                "token_type_ids" => Input::Types,
                "position_ids" => Input::Positions,
                other => {
                    return Err(wrong(format!(
                        "it wants an input {other:?}; a model of texts takes input_ids, attention_mask, token_type_ids"
                    )));
                }
            };
            inputs.push((*node, input));
        }
        let output = match runtime.find_node("sentence_embedding") {
            Some(node) if runtime.output_ids().contains(&node) => node,
            _ => *runtime.output_ids().first().ok_or_else(|| wrong("it has no output".into()))?,
        };
        let mut model =
            Self { runtime, words, settings, inputs, output, pooled: false, id, dims: 0 };
        // One text of each side: what cannot be run is known before anything is promised.
        let value = model.run(&[model.words.encode("fn main() {}", 16)]).map_err(wrong)?;
        let shape = value.shape().to_vec();
        (model.pooled, model.dims) = match shape.as_slice() {
            [1, dims] => (true, *dims),
            [1, _, dims] => (false, *dims),
            other => return Err(wrong(format!("its output has the shape {other:?}"))),
        };
        if model.dims == 0 || model.dims > MAX_DIMS {
            return Err(wrong(format!("its vectors have {} numbers", model.dims)));
        }
        model.vectors(&["fn main() {}"], Side::Document).map_err(wrong)?;
        Ok(model)
    }

    /// Changes with everything that vectors depend on.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The vectors of texts, in their order, as bytes: a cosine does not notice the scale.
    pub fn vectors(&self, texts: &[&str], side: Side) -> Result<Vec<Vec<i8>>, String> {
        Ok(self.floats(texts, side)?.iter().map(|v| bytes(v)).collect())
    }

    /// The same before they become bytes.
    pub fn floats(&self, texts: &[&str], side: Side) -> Result<Vec<Vec<f32>>, String> {
        let prompt = match side {
            Side::Question => &self.settings.question,
            Side::Document => &self.settings.document,
        };
        let encoded: Vec<Vec<i32>> = texts
            .iter()
            .map(|text| {
                if prompt.is_empty() {
                    self.words.encode(text, self.settings.tokens)
                } else {
                    self.words.encode(&format!("{prompt}{text}"), self.settings.tokens)
                }
            })
            .collect();
        // Texts of about one length go together: little is computed for padding.
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|at| encoded[*at].len());
        let mut out = vec![Vec::new(); texts.len()];
        let mut next = 0;
        while next < order.len() {
            let mut end = next + 1;
            while end < order.len() && encoded[order[end]].len() * (end + 1 - next) <= BATCH_TOKENS
            {
                end += 1;
            }
            let group: Vec<Vec<i32>> =
                order[next..end].iter().map(|at| encoded[*at].clone()).collect();
            for (at, vector) in order[next..end].iter().zip(self.pool(&group)?) {
                out[*at] = vector;
            }
            next = end;
        }
        Ok(out)
    }

    fn run(&self, texts: &[Vec<i32>]) -> Result<Value, String> {
        let (rows, columns) = (texts.len(), texts.iter().map(Vec::len).max().unwrap_or(1).max(1));
        let mut ids = NdTensor::<i32, 2>::zeros([rows, columns]);
        let mut mask = NdTensor::<i32, 2>::zeros([rows, columns]);
        let mut positions = NdTensor::<i32, 2>::zeros([rows, columns]);
        for (row, text) in texts.iter().enumerate() {
            for (column, id) in text.iter().enumerate() {
                ids[[row, column]] = *id;
                mask[[row, column]] = 1;
                positions[[row, column]] = column as i32;
            }
        }
        let types = NdTensor::<i32, 2>::zeros([rows, columns]);
        let inputs: Vec<(NodeId, ValueOrView<'_>)> = self
            .inputs
            .iter()
            .map(|(node, input)| {
                let value = match input {
                    Input::Ids => ids.view(),
                    Input::Mask => mask.view(),
                    Input::Types => types.view(),
                    Input::Positions => positions.view(),
                };
                (*node, value.into())
            })
            .collect();
        let out = self.runtime.run(inputs, &[self.output], None).map_err(|e| e.to_string())?;
        out.into_iter().next().ok_or_else(|| "it gave nothing".into())
    }

    /// One unit vector a text.
    fn pool(&self, texts: &[Vec<i32>]) -> Result<Vec<Vec<f32>>, String> {
        let value = self.run(texts)?;
        let shape = value.shape().to_vec();
        let columns = texts.iter().map(Vec::len).max().unwrap_or_default();
        let wrong = || format!("its output has the shape {shape:?} for {} texts", texts.len());
        let mut sums = Vec::with_capacity(texts.len());
        if self.pooled {
            let rows: NdTensor<f32, 2> = value.try_into().map_err(|_| wrong())?;
            if rows.shape() != [texts.len(), self.dims] {
                return Err(wrong());
            }
            for row in 0..texts.len() {
                sums.push((0..self.dims).map(|at| rows[[row, at]]).collect::<Vec<f32>>());
            }
        } else {
            let tokens: NdTensor<f32, 3> = value.try_into().map_err(|_| wrong())?;
            if tokens.shape() != [texts.len(), columns, self.dims] {
                return Err(wrong());
            }
            for (row, text) in texts.iter().enumerate() {
                let taken = if self.settings.pooling == Pooling::First { 1 } else { text.len() };
                let mut sum = vec![0.0; self.dims];
                for column in 0..taken {
                    for (at, sum) in sum.iter_mut().enumerate() {
                        *sum += tokens[[row, column, at]];
                    }
                }
                sums.push(sum);
            }
        }
        sums.into_iter().map(unit).collect()
    }
}

fn weights(folder: &Path) -> Result<PathBuf, Unusable> {
    let places = [folder.join("model.onnx"), folder.join("onnx/model.onnx")];
    let missing = || Unusable(format!("{} is missing", places[0].display()));
    places.iter().find(|path| path.exists()).cloned().ok_or_else(missing)
}

fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>, String> {
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if !norm.is_finite() || norm < 1e-12 {
        return Err("it gave a vector that is zero or no number".into());
    }
    for value in &mut vector {
        *value /= norm;
    }
    Ok(vector)
}

fn bytes(vector: &[f32]) -> Vec<i8> {
    let top = vector.iter().fold(f32::MIN_POSITIVE, |top, v| top.max(v.abs()));
    vector.iter().map(|v| (v / top * 127.0).round() as i8).collect()
}
