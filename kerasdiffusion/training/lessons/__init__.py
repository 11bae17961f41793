"""A folder that is taught: what is asked, the run, what it writes."""
