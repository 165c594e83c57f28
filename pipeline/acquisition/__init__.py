"""What stage fetch needs beside the network: its journal, its progress, inspection of bytes, a reorder buffer."""
