"""Models with every kind of primary key and manager. No migrations: the test databases get the tables as they are."""
