"""The central database: one writer, one home for its SQL, one module and one .sql file per noun."""
