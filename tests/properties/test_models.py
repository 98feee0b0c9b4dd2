"""Model files of strangers: Hugging Face directories and GGUF files."""

from tests.fuzz import targets
from tests.properties.cases import cases

test_hugging_face_directories = cases(15, 150)(targets.model_directory)
test_gguf_files = cases(15, 150)(targets.gguf)
