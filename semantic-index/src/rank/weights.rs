//! How much each part of a score counts, by kind of query.

use serde::{Deserialize, Serialize};

use super::Kind;

/// The defaults are what the product uses; `eval --weights` tries others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Weights {
    pub symbol: Profile,
    pub words: Profile,
    pub sentence: Profile,
    pub test: f32,
    pub auxiliary: f32,
    pub vendored: f32,
    pub generated: f32,
    pub barrel: f32,
    pub prose: f32,
    /// Share of a query's words in the nearest by meaning below which BM25 counts less.
    pub near_cover: f32,
    /// Shares in the best hits of the words: at the first and below, a query of words is
    /// ranked as a sentence, at the second and above as words.
    pub best_cover: [f32; 2],
}

/// What one kind of query counts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// BM25 that weighs as much as a cosine of 1 with `dense` 1.
    pub bm25: f32,
    /// Over 1, a weak BM25 (few words of the query, or common ones) weighs less than its
    /// share, so that meaning decides where words match only by chance.
    pub power: f32,
    pub dense: f32,
    /// Cosine of the query with the symbol alone.
    pub name: f32,
    /// Files with several matches.
    pub coherence: f32,
    /// The query holds the very name that is defined.
    pub definition: f32,
    /// Words of the query in the symbol, the file's name, its folder.
    pub symbol: f32,
    pub file: f32,
    pub folder: f32,
    /// A function rather than a type, a type rather than loose code.
    pub function: f32,
    /// Each further chunk of a file.
    pub repeat: f32,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            bm25: 30.0,
            power: 1.0,
            dense: 1.0,
            name: 0.2,
            coherence: 0.4,
            definition: 0.5,
            symbol: 0.2,
            file: 0.8,
            folder: 0.3,
            function: 0.0,
            repeat: 0.55,
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            symbol: Profile { dense: 0.3, definition: 1.0, ..Profile::default() },
            words: Profile::default(),
            // Says what one definition does: where its file lies says little, and two
            // definitions of one file are as good as two of different ones.
            sentence: Profile {
                bm25: 30.0,
                power: 1.6,
                dense: 1.5,
                name: 0.5,
                coherence: 0.0,
                definition: 0.1,
                symbol: 0.3,
                file: 0.1,
                folder: 0.0,
                function: 0.7,
                repeat: 1.0,
            },
            test: 0.4,
            auxiliary: 0.5,
            vendored: 0.6,
            generated: 0.5,
            barrel: 0.6,
            prose: 0.5,
            near_cover: 0.1,
            best_cover: [0.2, 0.4],
        }
    }
}

impl Profile {
    /// This one, and of the other the given part.
    #[must_use]
    pub fn mixed(&self, other: &Self, part: f32) -> Self {
        let mix = |a: f32, b: f32| a + (b - a) * part;
        Self {
            bm25: mix(self.bm25, other.bm25),
            power: mix(self.power, other.power),
            dense: mix(self.dense, other.dense),
            name: mix(self.name, other.name),
            coherence: mix(self.coherence, other.coherence),
            definition: mix(self.definition, other.definition),
            symbol: mix(self.symbol, other.symbol),
            file: mix(self.file, other.file),
            folder: mix(self.folder, other.folder),
            function: mix(self.function, other.function),
            repeat: mix(self.repeat, other.repeat),
        }
    }
}

impl Weights {
    pub fn of(&self, kind: Kind) -> &Profile {
        match kind {
            Kind::Symbol => &self.symbol,
            Kind::Words => &self.words,
            Kind::Sentence => &self.sentence,
        }
    }
}
