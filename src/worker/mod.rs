//! Take a batch, apply it, settle it.

mod settings;

pub use settings::PipelineSettings;
