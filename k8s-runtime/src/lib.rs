//! Container-runtime and image traits, CRI-shaped, and the runc backend.
