"""What all pages share: the guard, words, charts, exports, masking."""
