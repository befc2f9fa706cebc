//! Where a job goes on after a rest or a crash: a safetensors file of the trainer's state, with how far it is.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use innkeeper_formats::safetensors;
use innkeeper_tensor::{Buffer, Named};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::progress::{Epoch, Means};

/// The key of the file's metadata that says how far the job is.
const AT: &str = "at";
const FILE: &str = "checkpoint.safetensors";
const HALF: &str = "checkpoint.half";

/// How far a job is, beside the trainer's own state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct At {
    /// The epoch that is under way, from 0.
    pub(crate) epoch: u32,
    /// Steps that were taken, over all epochs.
    pub(crate) step: u64,
    /// What this epoch's batches answered so far.
    pub(crate) means: Means,
    /// The epochs that are over.
    pub(crate) history: Vec<Epoch>,
    /// Milliseconds that it ran.
    pub(crate) ran_ms: u64,
}

/// The folder of one job's files.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn of(dir: &Path, job: &str) -> Folder {
        Folder(dir.join(job))
    }

    /// Makes a checkpoint durable in place of the one before it. It is there whole, or the one before still is.
    pub(crate) fn write(&self, at: &At, state: &[Named]) -> Result<u64, TrainError> {
        let io = |error: std::io::Error| TrainError::io("writing a checkpoint", &error);
        let text = serde_json::to_string(at).map_err(|e| TrainError::Host(e.to_string()))?;
        let bytes = safetensors::to_bytes(state, &[(AT, &text)])
            .map_err(|error| TrainError::Trainer(format!("saved what cannot be kept: {error}")))?;
        fs::create_dir_all(&self.0).map_err(io)?;
        let half = self.0.join(HALF);
        let written = File::create(&half).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&half, self.0.join(FILE))?;
            File::open(&self.0)?.sync_all()
        });
        if written.is_err() {
            // On a full disk what is half there takes room that others need.
            let _ = fs::remove_file(&half);
        }
        written.map_err(io)?;
        Ok(bytes.len() as u64)
    }

    /// The last checkpoint, if there is one.
    pub(crate) fn read(&self) -> Result<Option<(At, Vec<Named>)>, TrainError> {
        let bytes = match fs::read(self.0.join(FILE)) {
            Ok(bytes) => Buffer::from_vec(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainError::io("reading a checkpoint", &error)),
        };
        let damaged = |why: String| TrainError::Host(format!("a checkpoint is damaged: {why}"));
        let metadata = safetensors::metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
        let text =
            metadata.get(AT).ok_or_else(|| damaged("it does not say how far it is".into()))?;
        let at = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        let tensors = safetensors::tensors(&bytes).map_err(|error| damaged(error.to_string()))?;
        let named = |(name, tensor)| Named { name, tensor };
        Ok(Some((at, tensors.into_iter().map(named).collect())))
    }

    /// Forgets everything of a job that has ended.
    pub(crate) fn remove(&self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %self.0.display(), "a job's files stay behind");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::Tensor;

    use super::*;

    #[test]
    fn the_last_whole_checkpoint_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(dir.path(), "j1");
        assert_eq!(folder.read().unwrap(), None);
        let state = |value: f32| {
            vec![Named { name: "w".into(), tensor: Tensor::from_vec(&[1], vec![value]).unwrap() }]
        };
        for step in [1, 2] {
            folder.write(&At { step, ..At::default() }, &state(step as f32)).unwrap();
        }
        // As a crash in the middle of the third leaves it.
        fs::write(dir.path().join("j1").join(HALF), b"half").unwrap();
        let (at, read) = folder.read().unwrap().unwrap();
        assert_eq!(at.step, 2);
        assert_eq!(read[0].tensor.as_bytes(), 2f32.to_le_bytes());
        folder.remove();
        assert_eq!(folder.read().unwrap(), None);
    }

    #[test]
    fn a_checkpoint_that_was_changed_is_not_gone_on_from() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(dir.path(), "j1");
        folder.write(&At::default(), &[]).unwrap();
        fs::write(dir.path().join("j1").join(FILE), b"nothing of the kind").unwrap();
        let error = folder.read().unwrap_err();
        assert!(error.to_string().contains("a checkpoint is damaged"), "{error}");
    }
}
