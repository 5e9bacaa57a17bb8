"""`radfuse extract-cohort`: the cases of a table, many at once, through a service or here, resumed."""
