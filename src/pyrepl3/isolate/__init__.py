"""A runner behind a pipe: sessions in processes of their own, which the host does not trust."""
