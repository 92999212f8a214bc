"""`verify`: a second implementation of the model, a search of the files, and the judgement."""
