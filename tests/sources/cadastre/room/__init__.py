"""A cadastre: parcels with a land use, kept by surveyors."""
