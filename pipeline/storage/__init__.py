"""Files anywhere: paths and URLs, retries, whole files or none."""
