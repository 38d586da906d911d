from tests.databases import database, database_url, postgres_server, postgres_url, postgresql

__all__ = ["database", "database_url", "postgres_server", "postgres_url", "postgresql"]
