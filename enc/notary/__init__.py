"""The notary: verified segments to LogBlocks, LogBlocks to PoE bundles."""
