//! The cluster binary, and small programs that bring their own part.
