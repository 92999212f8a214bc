//! Nothing: this package is for the benches beside this file.
