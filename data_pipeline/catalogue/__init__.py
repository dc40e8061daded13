"""Redshift catalogues: JADES DR3 and DR4, and any table with a stated column mapping."""

from data_pipeline.catalogue.catalogue import Catalogue, LineFluxes, read_catalogue
from data_pipeline.catalogue.table import CatalogueError, ColumnMapping

__all__ = ["Catalogue", "CatalogueError", "ColumnMapping", "LineFluxes", "read_catalogue"]
