"""Redshift catalogues: JADES DR3 and DR4, and any table with a stated column mapping."""

from data_pipeline.catalog.catalog import Catalog, LineFluxes, read_catalog
from data_pipeline.catalog.columns import CatalogError, ColumnMapping

__all__ = ["Catalog", "CatalogError", "ColumnMapping", "LineFluxes", "read_catalog"]
