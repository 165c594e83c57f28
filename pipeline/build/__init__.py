"""One build folder: atomic files, rows by stage and partition, the columns of embeddings."""
