//! What Innkeeper is measured with, and against. See README.md in this folder.
