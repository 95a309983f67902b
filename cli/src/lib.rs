//! The command line: local meshes, the demo, and explanations.
