//! The table's columns, and rows on their way into it.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Int8Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, UInt8Array, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::Result;

/// One chunk, ready to be stored.
#[derive(Debug, Clone)]
pub struct Row {
    pub path: String,
    pub start_line: u32,
    pub end_line: u32,
    pub symbol: String,
    pub kind: &'static str,
    pub crumb: String,
    pub flags: u8,
    pub code: String,
    /// Words for the full-text index, separated by spaces.
    pub tokens: String,
    pub vector: Option<Vec<i8>>,
}

/// Rows of one commit.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    bytes: usize,
}

pub(super) fn schema(dims: usize) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = vec![
        text("path"),
        Field::new("start_line", DataType::UInt32, false),
        Field::new("end_line", DataType::UInt32, false),
        text("symbol"),
        text("kind"),
        text("crumb"),
        Field::new("flags", DataType::UInt8, false),
        text("code"),
        text("tokens"),
        Field::new("generation", DataType::UInt64, false),
    ];
    if dims > 0 {
        let item = Arc::new(Field::new("item", DataType::Int8, true));
        fields.push(Field::new("vector", DataType::FixedSizeList(item, dims as i32), true));
    }
    Arc::new(Schema::new(fields))
}

impl Rows {
    pub fn push(&mut self, row: Row) {
        self.bytes += row.code.len() + row.tokens.len() + row.path.len() + 200;
        self.rows.push(row);
    }

    pub fn all(&self) -> &[Row] {
        &self.rows
    }

    pub fn all_mut(&mut self) -> &mut [Row] {
        &mut self.rows
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Approximate memory of the rows.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn batch(&self, generation: u64, dims: usize) -> Result<RecordBatch> {
        let text = |get: &dyn Fn(&Row) -> &str| -> ArrayRef {
            let mut builder = StringBuilder::with_capacity(
                self.rows.len(),
                self.rows.iter().map(|r| get(r).len()).sum(),
            );
            for row in &self.rows {
                builder.append_value(get(row));
            }
            Arc::new(builder.finish())
        };
        let mut columns: Vec<ArrayRef> = vec![
            text(&|r| &r.path),
            Arc::new(self.rows.iter().map(|r| r.start_line).collect::<UInt32Array>()),
            Arc::new(self.rows.iter().map(|r| r.end_line).collect::<UInt32Array>()),
            text(&|r| &r.symbol),
            text(&|r| r.kind),
            text(&|r| &r.crumb),
            Arc::new(self.rows.iter().map(|r| r.flags).collect::<UInt8Array>()),
            text(&|r| &r.code),
            text(&|r| &r.tokens),
            Arc::new(UInt64Array::from(vec![generation; self.rows.len()])),
        ];
        if dims > 0 {
            columns.push(self.vectors(dims));
        }
        Ok(RecordBatch::try_new(schema(dims), columns)?)
    }

    fn vectors(&self, dims: usize) -> ArrayRef {
        let mut vectors = FixedSizeListBuilder::new(
            Int8Builder::with_capacity(self.rows.len() * dims),
            dims as i32,
        );
        for row in &self.rows {
            if let Some(vector) = row.vector.as_ref().filter(|v| v.len() == dims) {
                vectors.values().append_slice(vector);
                vectors.append(true);
            } else {
                vectors.values().append_value_n(0, dims);
                vectors.append(false);
            }
        }
        Arc::new(vectors.finish())
    }
}
