/* The .safetensors format: the header's length in 8 bytes, the header (JSON), the tensors' bytes without gaps. */
#include "tensor_format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LENGTH_BYTES = 8, HEADER_LIMIT = 100000000 };
static const char metadata_key[] = "__metadata__";

/* All that the format knows, in the order in which a file holds them, so that each tensor begins at a multiple of its element:
 * larger elements first, and among equals as the format's own library does. */
static const struct dtype {
  const char *name;
  int bits;
  fg_type type;
} dtypes[] = {
    {"U64", 64, FG_DEFAULT_TYPE},
    {"I64", 64, FG_DEFAULT_TYPE},
    {"F64", 64, FG_DEFAULT_TYPE},
    {"C64", 64, FG_DEFAULT_TYPE},
    {"F32", 32, FG_FP32},
    {"U32", 32, FG_DEFAULT_TYPE},
    {"I32", 32, FG_DEFAULT_TYPE},
    {"BF16", 16, FG_BF16},
    {"F16", 16, FG_FP16},
    {"U16", 16, FG_DEFAULT_TYPE},
    {"I16", 16, FG_DEFAULT_TYPE},
    {"F8_E5M2FNUZ", 8, FG_DEFAULT_TYPE},
    {"F8_E4M3FNUZ", 8, FG_DEFAULT_TYPE},
    {"F8_E8M0", 8, FG_DEFAULT_TYPE},
    {"F8_E4M3", 8, FG_E4M3},
    {"F8_E5M2", 8, FG_E5M2},
    {"I8", 8, FG_DEFAULT_TYPE},
    {"U8", 8, FG_DEFAULT_TYPE},
    {"F6_E3M2", 6, FG_DEFAULT_TYPE},
    {"F6_E2M3", 6, FG_DEFAULT_TYPE},
    {"F4", 4, FG_DEFAULT_TYPE},
    {"BOOL", 8, FG_DEFAULT_TYPE},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

/* DTYPES for a name that the format does not know. */
static int dtype_index(const char *name) {
  int index = 0;
  while (index < DTYPES && strcmp(dtypes[index].name, name) != 0) index++;
  return index;
}

/* What people give instead. Read as a header's length, each of these is beyond the limit. */
static bool fail_not_safetensors(const struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]) {
  static const struct {
    const char *begin, *what;
  } others[] = {
      {"{", "is JSON; of a checkpoint in shards name the shard (as model-00001-of-00002.safetensors), not the index"},
      {"PK\x03\x04", "is a ZIP archive, as .npz and PyTorch's files are; it must be .npy or .safetensors"},
      {"version https://git-lfs", "is a Git LFS pointer; it must be the file itself, which `git lfs pull` fetches"},
      {"GGUF", "is a GGUF file; it must be .npy or .safetensors"},
  };
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    size_t length = strlen(others[i].begin);
    if (file->bytes >= length && memcmp(file->data, others[i].begin, length) == 0)
      return tensor_fail(path, error, "%s", others[i].what);
  }
  return tensor_fail(path, error,
                     "is neither .npy nor .safetensors: it must begin with \"\\x93NUMPY\" or with a header's length "
                     "of at most %d in 8 bytes",
                     HEADER_LIMIT);
}

static bool parse_tensor(struct tensor *tensor, json_t *entry, const unsigned char *data, size_t data_bytes, const char *path,
                         char error[TENSOR_ERROR_BYTES]) {
  const char *name = tensor->name;
  json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape");
  json_t *offsets = json_object_get(entry, "data_offsets");
  if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) || json_object_size(entry) != 3)
    return tensor_fail(path, error,
                       "has a tensor '%.80s' that is not described by a string 'dtype', an array 'shape', an array "
                       "'data_offsets' and nothing else",
                       name);
  if (json_array_size(shape) > TENSOR_RANK)
    return tensor_fail(path, error, "has a tensor '%.80s' of %zu dimensions; there may be up to %d", name, json_array_size(shape),
                       TENSOR_RANK);
  tensor->rank = (int)json_array_size(shape);
  for (int i = 0; i < tensor->rank; i++) {
    json_t *dimension = json_array_get(shape, (size_t)i);
    if (!json_is_integer(dimension))
      return tensor_fail(path, error, "has a tensor '%.80s' with a shape that is not of integers", name);
    tensor->shape[i] = json_integer_value(dimension);
  }
  tensor->dtype = json_string_value(dtype);
  int known = dtype_index(tensor->dtype);
  tensor->type = known < DTYPES ? dtypes[known].type : FG_DEFAULT_TYPE;
  const char *fault = tensor_measure(tensor, known < DTYPES ? dtypes[known].bits : 8);
  if (fault) return tensor_fail(path, error, "has a tensor '%.80s' that %s", name, fault);

  json_t *begin_json = json_array_get(offsets, 0), *end_json = json_array_get(offsets, 1);
  if (!json_is_integer(begin_json) || !json_is_integer(end_json) || json_array_size(offsets) != 2)
    return tensor_fail(path, error, "has a tensor '%.80s' with data_offsets that are not two integers", name);
  int64_t begin = json_integer_value(begin_json), end = json_integer_value(end_json);
  if (begin < 0 || begin > end)
    return tensor_fail(path, error, "has a tensor '%.80s' with data_offsets [%" PRId64 ", %" PRId64 "]; they must ascend from 0",
                       name, begin, end);
  if ((uint64_t)end > data_bytes)
    return tensor_fail(path, error, "is truncated: tensor '%.80s' ends at byte %" PRId64 " after the header, and %zu follow it",
                       name, end, data_bytes);
  char text[SHAPE_TEXT_BYTES];
  if (known < DTYPES && end - begin != tensor->bytes)
    return tensor_fail(path, error, "has a tensor '%.80s' of %" PRId64 " bytes by its data_offsets; %s of %s takes %" PRId64,
                       name, end - begin, shape_text(tensor, text), tensor->dtype, tensor->bytes);
  tensor->bytes = end - begin;
  tensor->data = data + begin;
  return true;
}

static int compare_places(const void *left, const void *right) {
  const struct tensor *a = left, *b = right;
  uintptr_t a_begin = (uintptr_t)a->data, b_begin = (uintptr_t)b->data;
  return a_begin != b_begin ? (a_begin < b_begin ? -1 : 1) : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int compare_names(const void *left, const void *right) {
  return strcmp(((const struct tensor *)left)->name, ((const struct tensor *)right)->name);
}

/* Tensors lie side by side, from the first byte to the last. */
static bool check_places(const struct tensor_file *file, const unsigned char *data, size_t data_bytes, const char *path,
                         char error[TENSOR_ERROR_BYTES]) {
  const unsigned char *end = data;
  for (int i = 0; i < file->count; i++) {
    const unsigned char *begin = file->tensors[i].data;
    if (begin < end)
      return tensor_fail(path, error, "has a tensor '%.80s' that overlaps '%.80s'", file->tensors[i].name,
                         file->tensors[i - 1].name);
    if (begin > end)
      return tensor_fail(path, error, "has %td bytes before tensor '%.80s' that belong to no tensor", begin - end,
                         file->tensors[i].name);
    end = begin + file->tensors[i].bytes;
  }
  size_t rest = data_bytes - (size_t)(end - data);
  return !rest || tensor_fail(path, error, "has %zu bytes at its end that belong to no tensor", rest);
}

bool safetensors_parse(struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]) {
  uint64_t header_bytes = UINT64_MAX;
  if (file->bytes >= LENGTH_BYTES) memcpy(&header_bytes, file->data, LENGTH_BYTES);
  if (header_bytes > HEADER_LIMIT) return fail_not_safetensors(file, path, error);
  const char *header = (const char *)file->data + LENGTH_BYTES;
  size_t data_bytes = file->bytes - LENGTH_BYTES;
  if (header_bytes > data_bytes)
    return tensor_fail(path, error, "is truncated: its header takes %" PRIu64 " bytes, and %zu follow", header_bytes, data_bytes);
  data_bytes -= header_bytes;
  const unsigned char *data = file->data + LENGTH_BYTES + header_bytes;
  if (!header_bytes || *header != '{') return tensor_fail(path, error, "has a header that does not begin with '{'");
  json_error_t fault;
  file->header = json_loadb(header, header_bytes, JSON_REJECT_DUPLICATES, &fault);
  if (!file->header)
    return tensor_fail(path, error, "has a header that is not JSON: at its byte %d, %.150s", fault.position, fault.text);

  size_t entries = json_object_size(file->header);
  file->tensors = calloc(entries + 1, sizeof *file->tensors);
  if (!file->tensors) return tensor_fail(path, error, "cannot be read: out of memory");
  const char *name;
  json_t *entry;
  json_object_foreach(file->header, name, entry) {
    if (strcmp(name, metadata_key) == 0) {
      const char *key;
      json_t *value;
      if (!json_is_object(entry)) return tensor_fail(path, error, "has a %s that is not an object", metadata_key);
      json_object_foreach(entry, key, value) {
        if (!json_is_string(value))
          return tensor_fail(path, error, "has a value in %s, of '%.80s', that is not a string", metadata_key, key);
      }
    } else {
      struct tensor *tensor = &file->tensors[file->count++];
      tensor->name = name;
      if (!parse_tensor(tensor, entry, data, data_bytes, path, error)) return false;
    }
  }
  qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, compare_places);
  if (!check_places(file, data, data_bytes, path, error)) return false;
  qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, compare_names);
  return true;
}

static int compare_for_writing(const void *left, const void *right) {
  const struct tensor *a = left, *b = right;
  int order = dtype_index(a->dtype) - dtype_index(b->dtype);
  return order ? order : strcmp(a->name, b->name);
}

/* Why no tensor can be written under this name, as in "tensor X %s"; NULL: it can. */
static const char *name_fault(const char *name) {
  if (strcmp(name, metadata_key) == 0) return "has the name that the format keeps for itself";
  json_t *string = json_string(name);
  json_decref(string);
  return string ? NULL : "has a name that is not UTF-8, or there is no memory";
}

/* A tensor to be written, with dtype, count and bytes as its type and shape say. */
static bool complete(struct tensor *tensor, const char *path, char error[TENSOR_ERROR_BYTES]) {
  int known = 0;
  if (tensor->type == FG_DEFAULT_TYPE) {
    known = dtype_index(tensor->dtype);
  } else {
    while (known < DTYPES && dtypes[known].type != tensor->type) known++;
  }
  const char *fault = known == DTYPES                                  ? "has a dtype that .safetensors does not know"
                      : tensor->rank < 0 || tensor->rank > TENSOR_RANK ? "has more than 8 dimensions"
                      : tensor->fortran_order ? "has its first index contiguous; in .safetensors the last must be"
                                              : name_fault(tensor->name);
  if (!fault) fault = tensor_measure(tensor, dtypes[known].bits);
  if (fault) return tensor_fail(path, error, "cannot be written: tensor '%.80s' %s", tensor->name, fault);
  tensor->dtype = dtypes[known].name;
  return true;
}

/* The header as JSON, *length bytes. NULL: no memory. */
static char *header_text(const struct tensor *tensors, size_t count, json_t *metadata, size_t *length) {
  json_t *header = json_object();
  bool good = header && (!metadata || json_object_set(header, metadata_key, metadata) == 0);
  int64_t offset = 0;
  for (size_t i = 0; good && i < count; i++) {
    const struct tensor *tensor = &tensors[i];
    json_t *shape = json_array();
    for (int j = 0; j < tensor->rank; j++) good = json_array_append_new(shape, json_integer(tensor->shape[j])) == 0 && good;
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape, "data_offsets", (json_int_t)offset,
                              (json_int_t)(offset + tensor->bytes));
    good = json_object_set_new(header, tensor->name, entry) == 0 && good;
    offset += tensor->bytes;
  }
  /* Measured first: json_dumps() grows its text, and where it has no memory for that leaves a key out without telling. */
  *length = good ? json_dumpb(header, NULL, 0, JSON_COMPACT) : 0;
  char *text = *length ? malloc(*length) : NULL;
  if (text && json_dumpb(header, text, *length, JSON_COMPACT) != *length) {
    free(text);
    text = NULL;
  }
  json_decref(header);
  return text;
}

/* parts: room for count + 3. */
static bool write_merged(const char *path, struct tensor *merged, struct part *parts, size_t count, json_t *metadata,
                         char error[TENSOR_ERROR_BYTES]) {
  static const char padding[] = "       "; /* after it the data begins at a multiple of 8 */
  qsort(merged, count, sizeof *merged, compare_for_writing);
  size_t length;
  char *header = header_text(merged, count, metadata, &length);
  if (!header) return tensor_fail(path, error, "cannot be written: out of memory");
  uint64_t header_bytes = (length + 7) / 8 * 8;
  parts[0] = (struct part){&header_bytes, LENGTH_BYTES};
  parts[1] = (struct part){header, length};
  parts[2] = (struct part){padding, header_bytes - length};
  for (size_t i = 0; i < count; i++) parts[3 + i] = (struct part){merged[i].data, (size_t)merged[i].bytes};
  bool good =
      header_bytes <= HEADER_LIMIT
          ? replace_file(path, parts, 3 + count, error)
          : tensor_fail(path, error, "cannot be written: its header would take %" PRIu64 " bytes, and the format allows %d",
                        header_bytes, HEADER_LIMIT);
  free(header);
  return good;
}

static const struct tensor *find(const struct tensor *tensors, int count, const char *name) {
  for (int i = 0; i < count; i++) {
    if (strcmp(tensors[i].name, name) == 0) return &tensors[i];
  }
  return NULL;
}

/* The file whose other tensors are to be kept; NULL if there is none, or an empty one. The caller closes it, also after false. */
static bool open_existing(const char *path, struct tensor_file **existing, char error[TENSOR_ERROR_BYTES]) {
  struct stat status;
  *existing = NULL;
  if (stat(path, &status) || status.st_size == 0) return true;
  *existing = tensor_file_open(path, error);
  return *existing && ((*existing)->header || tensor_fail(path, error,
                                                          "is a .npy file, which holds one tensor without a name; "
                                                          "it must be .safetensors to take another"));
}

bool safetensors_writable(const char *path, const char *name, char error[TENSOR_ERROR_BYTES]) {
  const char *fault = name_fault(name);
  if (fault) return tensor_fail(path, error, "cannot be written: tensor '%.80s' %s", name, fault);
  struct tensor_file *existing;
  bool good = open_existing(path, &existing, error);
  tensor_file_close(existing);
  return good && replace_file_possible(path, error);
}

bool safetensors_write(const char *path, const struct tensor *tensors, int count, char error[TENSOR_ERROR_BYTES]) {
  struct tensor_file *existing;
  bool good = open_existing(path, &existing, error);
  size_t kept = existing ? (size_t)existing->count : 0, merged_count = 0;
  struct tensor *merged = malloc((kept + (size_t)count + 1) * sizeof *merged);
  struct part *parts = malloc((kept + (size_t)count + 3) * sizeof *parts);
  if (good && (!merged || !parts)) good = tensor_fail(path, error, "cannot be written: out of memory");
  for (size_t i = 0; good && i < kept; i++) {
    if (!find(tensors, count, existing->tensors[i].name)) merged[merged_count++] = existing->tensors[i];
  }
  for (int i = 0; good && i < count; i++) {
    merged[merged_count] = tensors[i];
    good = complete(&merged[merged_count++], path, error);
    if (good && find(tensors, i, tensors[i].name))
      good = tensor_fail(path, error, "cannot be written: two tensors are named '%.80s'", tensors[i].name);
  }
  if (good)
    good =
        write_merged(path, merged, parts, merged_count, existing ? json_object_get(existing->header, metadata_key) : NULL, error);
  free(parts);
  free(merged);
  tensor_file_close(existing);
  return good;
}
