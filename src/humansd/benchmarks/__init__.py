"""How fast, how robust, how varied: one file a question."""
