"""Surveys of any size: inputs in partitions, Dask workers, Parquet tables out."""
