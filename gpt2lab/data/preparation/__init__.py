"""Text -> token shards.

1. A source divides its text into chunks of about a megabyte, a function of the text alone (``data.sources``).
2. A backend gives the chunks to workers: in this process, in separate processes or on a Ray cluster (``backends``).
3. A worker reads the documents of a chunk, assigns each to a split and tokenizes it (``tokenization``).
4. The main process takes the results in the order of the chunks, drops copies (``duplicates``) and appends the tokens
   to shards (``shards``), and saves its progress every few seconds (``build``).
5. One rename makes the finished folder a prepared dataset.

So the files have the same bytes for any number of workers, any backend and any interruption.
"""
