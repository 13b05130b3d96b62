"""Targets of `scriven export`: one file = one class `Target`, an `export.base.ExportTarget`."""
