"""Redshift catalogues: JADES DR3 and DR4, and any table with stated columns."""

from data_pipeline.catalogue.catalogue import Catalogue, read_catalogue
from data_pipeline.catalogue.table import CatalogueError, parse_columns
