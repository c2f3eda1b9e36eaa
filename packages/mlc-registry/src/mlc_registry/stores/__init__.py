"""Where the facts of a registry are kept: one set of statements, and what each database needs beside them."""
