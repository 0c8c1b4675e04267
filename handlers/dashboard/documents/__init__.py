"""What explains the pages: the texts of docs/ and the README as pages, and the game API's document as tables."""
