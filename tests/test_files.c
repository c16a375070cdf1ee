/* .npy and .safetensors: what is read, what is refused and in which words, and that a failed writer changes nothing. */
#define _DEFAULT_SOURCE /* ru_minflt */
#include "tensor_file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, MOST_BYTES = 4096 };

#define LITERAL(text) (text), sizeof(text) - 1
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- A folder for each test */

static char folder[PATH_BYTES / 2];

static void make_folder(void) {
  const char *parent = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/finegemm-files-XXXXXX", parent ? parent : "/tmp");
  cr_assert_not_null(mkdtemp(folder), "%s: %s", folder, strerror(errno));
}

/* Calls see for each entry; returns how many there are. */
static int each_entry(void (*see)(const char *path)) {
  DIR *stream = opendir(folder);
  int count = 0;
  for (struct dirent *entry; stream && (entry = readdir(stream));) {
    char path[2 * PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    count++;
    if (see) see(path);
  }
  if (stream) closedir(stream);
  return count;
}

static void remove_entry(const char *path) { remove(path); }

static void remove_folder(void) {
  each_entry(remove_entry);
  rmdir(folder);
}

/* folder/name, in one of a few buffers that take turns. */
static const char *in_folder(const char *name) {
  static char paths[8][PATH_BYTES];
  static int turn;
  char *path = paths[turn++ % 8];
  snprintf(path, PATH_BYTES, "%s/%s", folder, name);
  return path;
}

static const char *put(const char *name, const void *data, size_t bytes) {
  const char *path = in_folder(name);
  FILE *stream = fopen(path, "wb");
  cr_assert(stream && fwrite(data, 1, bytes, stream) == bytes && fclose(stream) == 0, "%s: %s", path, strerror(errno));
  return path;
}

/* The file's bytes; at most `capacity`. */
static size_t get(const char *path, void *data, size_t capacity) {
  FILE *stream = fopen(path, "rb");
  cr_assert(stream, "%s: %s", path, strerror(errno));
  size_t bytes = fread(data, 1, capacity, stream);
  fclose(stream);
  return bytes;
}

static void expect_content(const char *path, const void *data, size_t bytes) {
  unsigned char found[MOST_BYTES];
  cr_assert(bytes < sizeof found && get(path, found, sizeof found) == bytes && memcmp(found, data, bytes) == 0, "%s changed",
            path);
}

/* --- Files made by hand */

enum form {
  BYTES,       /* as they stand */
  NPY1,        /* a header of .npy 1.0 */
  NPY2,        /* 2.0, */
  NPY3,        /* 3.0: its length in four bytes */
  SAFETENSORS, /* a header of .safetensors */
};

/* The file's bytes: header and as many bytes 0, 1, 2 ... as `payload`. The caller frees; no byte more is allocated. */
static unsigned char *make(enum form form, const char *text, size_t text_bytes, size_t payload, size_t *bytes) {
  unsigned char start[16] = {0};
  size_t start_bytes = form == BYTES ? 0 : form == NPY1 ? 10 : form == SAFETENSORS ? 8 : 12;
  if (form == NPY1 || form == NPY2 || form == NPY3) {
    memcpy(start, "\x93NUMPY", 6);
    start[6] = (unsigned char)(form - NPY1 + 1);
    start[8] = text_bytes & 0xFF;
    start[9] = (text_bytes >> 8) & 0xFF;
  } else {
    memcpy(start, &(uint64_t){text_bytes}, 8);
  }
  *bytes = start_bytes + text_bytes + payload;
  unsigned char *data = malloc(*bytes + !*bytes);
  memcpy(data, start, start_bytes);
  if (text_bytes) memcpy(data + start_bytes, text, text_bytes);
  for (size_t i = 0; i < payload; i++) data[start_bytes + text_bytes + i] = (unsigned char)i;
  return data;
}

struct hand_made {
  enum form form;
  const char *text;
  size_t text_bytes, payload;
  const char *expected; /* a part of the sentence */
};

#define F4(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }"
#define DESCR(descr) "{'descr': " descr ", 'fortran_order': False, 'shape': (2,)}"
#define X(dtype, shape, offsets) "{\"x\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define XY(x, y)                                                                                                                 \
  "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" x "},\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" y "}}"

static const struct hand_made malformed[] = {
    /* neither */
    {BYTES, LITERAL(""), 0, "is neither .npy nor .safetensors"},
    {BYTES, LITERAL("x"), 0, "is neither .npy nor .safetensors"},
    {BYTES, LITERAL("\x93NUMP"), 0, "is neither .npy nor .safetensors"},
    {BYTES, LITERAL("1.0 2.0 3.0\n4.0 5.0 6.0\n"), 0, "is neither .npy nor .safetensors"},
    {BYTES, LITERAL("\x01\xE1\xF5\x05\0\0\0\0{}"), 0, "at most 100000000"},
    {BYTES, LITERAL("{}"), 0, "not the index"},
    {BYTES, LITERAL("{\n  \"metadata\": {\"total_size\": 1},\n  \"weight_map\": {}\n}\n"), 0,
     "is JSON; of a checkpoint in shards"},
    {BYTES, LITERAL("PK\x03\x04\0\0\x08\x08\0\0"), 0, "is a ZIP archive"},
    {BYTES, LITERAL("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), 0, "is a Git LFS pointer"},
    {BYTES, LITERAL("GGUF\x03\0\0\0\0\0\0\0"), 0, "is a GGUF file"},
    /* .npy: before the header */
    {BYTES, LITERAL("\x93NUMPY"), 0, "is truncated: it has 6 bytes"},
    {BYTES, LITERAL("\x93NUMPY\x01\0\x10"), 0, "is truncated: it has 9 bytes"},
    {BYTES, LITERAL("\x93NUMPY\x02\0\x10\0\0"), 0, "begins with 12 before its header"},
    {BYTES, LITERAL("\x93NUMPY\x00\0\x02\0{}"), 0, ".npy version 0.0"},
    {BYTES, LITERAL("\x93NUMPY\x04\0\x02\0\0\0{}"), 0, ".npy version 4.0"},
    {BYTES, LITERAL("\x93NUMPY\x01\x01\x02\0{}"), 0, ".npy version 1.1"},
    {BYTES, LITERAL("\x93NUMPY\x01\0\x03\0{}"), 0, "its header takes 3 bytes, and 2 follow"},
    {BYTES, LITERAL("\x93NUMPY\x01\0\xFF\xFF{}"), 0, "has a header of 65535 bytes; numpy reads up to 10000"},
    {BYTES, LITERAL("\x93NUMPY\x02\0\xFF\xFF\xFF\xFF{}"), 0, "has a header of 4294967295 bytes"},
    /* .npy: the header as a dict */
    {NPY1, LITERAL(""), 0, "does not begin with '{'"},
    {NPY1, LITERAL("('<f4', False, (2,))"), 8, "does not begin with '{'"},
    {NPY1, LITERAL("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)"), 8,
     "neither ',' nor '}' follows the value of 'shape'"},
    {NPY1, LITERAL("{'descr': '<f4', 'fortran_order': False, 'shape': (2,),"), 8, "is no Python dict"},
    {NPY1, LITERAL("{'descr': '<f4',, 'fortran_order': False, 'shape': (2,)}"), 8, "is no Python dict"},
    {NPY1, LITERAL("{'descr' '<f4', 'fortran_order': False, 'shape': (2,)}"), 8, "is no Python dict"},
    {NPY1, LITERAL("{descr: '<f4', 'fortran_order': False, 'shape': (2,)}"), 8, "is no Python dict"},
    {NPY1, LITERAL("{'descr: "), 8, "is no Python dict"},
    {NPY1, LITERAL("{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}"), 8, "follows the value of 'descr'"},
    {NPY1, LITERAL("{}"), 8, "without 'descr'"},
    {NPY1, LITERAL("{'descr': '<f4', 'shape': (2,)}"), 8, "without 'fortran_order'"},
    {NPY1, LITERAL("{'descr': '<f4', 'fortran_order': False}"), 8, "without 'shape'"},
    {NPY1, LITERAL("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"), 8, "the key 'descr' twice"},
    {NPY1, LITERAL("{'descr': '<f4', 'order': False, 'shape': (2,)}"), 8, "has the key 'order'"},
    {NPY1, LITERAL("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}"), 8, "neither True nor False"},
    {NPY1, LITERAL("{'descr': '<f4', 'fortran_order': Falsehood, 'shape': (2,)}"), 8, "follows the value of 'fortran_order'"},
    {NPY1, LITERAL(F4("(2,)") "}"), 8, "goes on after its '}'"},
    {NPY1, LITERAL(F4("(2,)") "\0"), 8, "has the byte 0x00 in its header"},
    {NPY1, LITERAL("\xEF\xBB\xBF" F4("(2,)")), 8, "has the byte 0xEF in its header"},
    {NPY3, LITERAL("{'descr': [('\xC3\xA9', '<f4')], 'fortran_order': False, 'shape': (2,)}"), 8, "must be ASCII text"},
    /* .npy: the dtype */
    {NPY1, LITERAL(DESCR("'>f4'")), 8, "has the big-endian dtype '>f4'"},
    {NPY1,
     LITERAL(DESCR("'>"
                   "i2'")),
     4, "must be little-endian"},
    {NPY1, LITERAL(DESCR("'|O'")), 16, "holds Python objects"},
    {NPY1, LITERAL(DESCR("[('a', '<f4'), ('b', '<i4')]")), 16, "has a structured dtype"},
    {NPY1, LITERAL(DESCR("('<f4', (2,))")), 16, "has a structured dtype"},
    {NPY1, LITERAL(DESCR("4")), 8, "'descr' is not a string"},
    {NPY1, LITERAL(DESCR("''")), 8, "has the dtype ''; it must be one that numpy writes"},
    {NPY1, LITERAL(DESCR("'<f3'")), 8, "has the dtype '<f3'"},
    {NPY1, LITERAL(DESCR("'f4'")), 8, "has the dtype 'f4'"},
    {NPY1, LITERAL(DESCR("'<f4 '")), 8, "has the dtype '<f4 '"},
    {NPY1, LITERAL(DESCR("'|S'")), 8, "has the dtype '|S'"},
    {NPY1, LITERAL(DESCR("'|S0'")), 8, "has the dtype '|S0'"},
    {NPY1, LITERAL(DESCR("'|S-1'")), 8, "has the dtype '|S-1'"},
    {NPY1, LITERAL(DESCR("'|S9999999999'")), 8, "has the dtype '|S9999999999'"},
    {NPY1, LITERAL(DESCR("'<M8[ns'")), 16, "has the dtype '<M8[ns'"},
    {NPY1, LITERAL(DESCR("'<f4444444444444444444444444444444444444444444444444444444444'")), 8,
     "it must be one that numpy writes"},
    /* .npy: the shape and the data */
    {NPY1, LITERAL(F4("2")), 8, "is not a tuple of integers"},
    {NPY1, LITERAL(F4("(2)")), 8, "is not a tuple of integers"},
    {NPY1, LITERAL(F4("[2]")), 8, "is not a tuple of integers"},
    {NPY1, LITERAL(F4("(,)")), 8, "is not a tuple of integers"},
    {NPY1, LITERAL(F4("(2 3)")), 24, "is not a tuple of integers"},
    {NPY1, LITERAL(F4("(2.0,)")), 8, "is not a tuple of integers"},
    {NPY1, LITERAL(F4("(None,)")), 8, "is not a tuple of integers"},
    {NPY1, LITERAL("{'descr': '<f4', 'fortran_order': False, 'shape': (2"), 8, "is not a tuple of integers"},
    {NPY1, LITERAL(F4("(-1,)")), 8, "has a negative dimension"},
    {NPY1, LITERAL(F4("(2, -9223372036854775808)")), 8, "has a negative dimension"},
    {NPY1, LITERAL(F4("(9223372036854775808,)")), 8, "has a dimension of 2^63 or more"},
    {NPY1, LITERAL(F4("(99999999999999999999999999,)")), 8, "has a dimension of 2^63 or more"},
    {NPY1, LITERAL(F4("(9223372036854775807,)")), 8, "has a shape too large to address"},
    {NPY1, LITERAL(F4("(4294967296, 4294967296)")), 8, "has a shape too large to address"},
    {NPY1, LITERAL(F4("(4294967296, 4294967296, 0)")), 0, "has a shape too large to address"},
    {NPY1, LITERAL(F4("(0, 4294967296, 4294967296)")), 0, "has a shape too large to address"},
    {NPY1, LITERAL(F4("(1, 1, 1, 1, 1, 1, 1, 1, 1)")), 4, "has more than 8 dimensions"},
    {NPY1, LITERAL(F4("(2, 3)")), 23, "is truncated: [2, 3] of '<f4' takes 24 bytes, and 23 follow"},
    {NPY1, LITERAL(F4("(288230376151711743,)")), 8, "takes 1152921504606846972 bytes"},
    {NPY2, LITERAL(F4("()")), 3, "is truncated: [] of '<f4' takes 4 bytes"},
    {NPY1, LITERAL(F4("(2, 3)")), 25, "has 1 bytes after its array"},
    {NPY3, LITERAL(F4("(0,)")), 4, "has 4 bytes after its array"},
    /* .safetensors: the header */
    {SAFETENSORS, LITERAL(""), 0, "does not begin with '{'"},
    {SAFETENSORS, LITERAL(" {}"), 0, "does not begin with '{'"},
    {SAFETENSORS, LITERAL("[]"), 0, "does not begin with '{'"},
    {BYTES, LITERAL("\x03\0\0\0\0\0\0\0{}"), 0, "its header takes 3 bytes, and 2 follow"},
    {BYTES, LITERAL("\0\xE1\xF5\x05\0\0\0\0{}"), 0, "its header takes 100000000 bytes, and 2 follow"},
    {SAFETENSORS, LITERAL("{"), 0, "has a header that is not JSON: at its byte 1"},
    {SAFETENSORS, LITERAL("{}{}"), 0, "is not JSON"},
    {SAFETENSORS, LITERAL("{}\0"), 0, "is not JSON"},
    {SAFETENSORS, LITERAL("{'x':1}"), 0, "is not JSON"},
    {SAFETENSORS, LITERAL("{\"\xFF\":{}}"), 0, "is not JSON"},
    {SAFETENSORS, LITERAL("{\"a\\u0000b\":{}}"), 0, "is not JSON"},
    {SAFETENSORS, LITERAL("{\"x\":{},\"x\":{}}"), 0, "duplicate"},
    {SAFETENSORS, LITERAL("{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"), 4, "duplicate"},
    {SAFETENSORS, LITERAL("{\"__metadata__\":[]}"), 0, "has a __metadata__ that is not an object"},
    {SAFETENSORS, LITERAL("{\"__metadata__\":{\"a\":1}}"), 0, "has a value in __metadata__, of 'a', that is not a string"},
    /* .safetensors: one tensor */
    {SAFETENSORS, LITERAL("{\"x\":[]}"), 0, "has a tensor 'x' that is not described by"},
    {SAFETENSORS, LITERAL("{\"x\":{}}"), 0, "has a tensor 'x' that is not described by"},
    {SAFETENSORS, LITERAL("{\"x\":{\"shape\":[4],\"data_offsets\":[0,4]}}"), 4, "a string 'dtype'"},
    {SAFETENSORS, LITERAL("{\"x\":{\"dtype\":5,\"shape\":[4],\"data_offsets\":[0,4]}}"), 4, "a string 'dtype'"},
    {SAFETENSORS, LITERAL("{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}"), 4, "an array 'shape'"},
    {SAFETENSORS, LITERAL("{\"x\":{\"dtype\":\"U8\",\"shape\":[4]}}"), 4, "an array 'data_offsets'"},
    {SAFETENSORS, LITERAL("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"strides\":[1]}}"), 4, "nothing else"},
    {SAFETENSORS, LITERAL(X("U8", "4", "[0,4]")), 4, "an array 'shape'"},
    {SAFETENSORS, LITERAL(X("U8", "[4.0]", "[0,4]")), 4, "a shape that is not of integers"},
    {SAFETENSORS, LITERAL(X("U8", "[\"4\"]", "[0,4]")), 4, "a shape that is not of integers"},
    {SAFETENSORS, LITERAL(X("U8", "[-4]", "[0,4]")), 4, "has a tensor 'x' that has a negative dimension"},
    {SAFETENSORS, LITERAL(X("U8", "[1,1,1,1,1,1,1,1,4]", "[0,4]")), 4, "has a tensor 'x' of 9 dimensions"},
    {SAFETENSORS, LITERAL(X("U8", "[4294967296,4294967296]", "[0,4]")), 4, "has a shape too large to address"},
    {SAFETENSORS, LITERAL(X("U8", "[4294967296,4294967296,0]", "[0,0]")), 0, "has a shape too large to address"},
    {SAFETENSORS, LITERAL(X("U8", "[18446744073709551616]", "[0,4]")), 4, "is not JSON"},
    {SAFETENSORS, LITERAL(X("F4", "[3]", "[0,2]")), 2, "ends within a byte"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "{}")), 4, "an array 'data_offsets'"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[0]")), 4, "data_offsets that are not two integers"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[0,4,8]")), 4, "data_offsets that are not two integers"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[0,4.0]")), 4, "data_offsets that are not two integers"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[-4,0]")), 4, "they must ascend from 0"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[4,0]")), 4, "data_offsets [4, 0]; they must ascend"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[0,4]")), 3, "is truncated: tensor 'x' ends at byte 4 after the header, and 3 follow"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[9223372036854775803,9223372036854775807]")), 4, "is truncated"},
    {SAFETENSORS, LITERAL(X("F32", "[4]", "[0,4]")), 4, "of 4 bytes by its data_offsets; [4] of F32 takes 16"},
    {SAFETENSORS, LITERAL(X("F32", "[1,0]", "[0,4]")), 4, "[1, 0] of F32 takes 0"},
    /* .safetensors: tensors side by side */
    {SAFETENSORS, LITERAL("{}"), 1, "has 1 bytes at its end that belong to no tensor"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[0,4]")), 5, "has 1 bytes at its end that belong to no tensor"},
    {SAFETENSORS, LITERAL(X("U8", "[4]", "[1,5]")), 5, "has 1 bytes before tensor 'x' that belong to no tensor"},
    {SAFETENSORS, LITERAL(XY("[0,4]", "[5,9]")), 9, "has 1 bytes before tensor 'y' that belong to no tensor"},
    {SAFETENSORS, LITERAL(XY("[0,4]", "[0,4]")), 4, "overlaps"},
    {SAFETENSORS, LITERAL(XY("[0,4]", "[3,7]")), 7, "has a tensor 'y' that overlaps 'x'"},
    {SAFETENSORS, LITERAL(XY("[3,7]", "[0,4]")), 7, "has a tensor 'x' that overlaps 'y'"},
    {SAFETENSORS,
     LITERAL("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
             "\"empty\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}"),
     4, "has a tensor 'empty' that overlaps 'x'"},
};

/* One sentence: it begins with the path, holds `expected`, was not cut off and does not steer a terminal. */
static void expect_sentence(const char *error, const char *path, const char *expected) {
  char start[PATH_BYTES];
  snprintf(start, sizeof start, "%s: ", path);
  cr_expect(strncmp(error, start, strlen(start)) == 0, "'%s' does not begin with '%s'", error, start);
  cr_expect(strstr(error, expected), "'%s' does not say '%s'", error, expected);
  cr_expect(*error && strlen(error) < TENSOR_ERROR_BYTES - 1 && error[strlen(error) - 1] != '.', "'%s' is not one whole sentence",
            error);
  for (const char *at = error; *at; at++) cr_expect((unsigned char)*at >= ' ', "'%s' holds a control character", error);
}

Test(files, refuses_what_is_malformed) {
  make_folder();
  for (size_t i = 0; i < COUNT(malformed); i++) {
    const struct hand_made *row = &malformed[i];
    size_t bytes;
    char error[TENSOR_ERROR_BYTES] = "";
    unsigned char *data = make(row->form, row->text, row->text_bytes, row->payload, &bytes);
    struct tensor_file *file = tensor_file_parse(data, bytes, "name", error);
    cr_expect_null(file, "accepted instead of '%s'", row->expected);
    if (!file) expect_sentence(error, "name", row->expected);
    tensor_file_close(file);
    if (bytes) {
      const char *path = put("file", data, bytes);
      file = tensor_file_open(path, error);
      cr_expect_null(file, "opened instead of '%s'", row->expected);
      if (!file) expect_sentence(error, path, row->expected);
      tensor_file_close(file);
    }
    free(data);
  }
  remove_folder();
}

/* --- What is accepted */

struct accepted {
  enum form form;
  const char *text;
  size_t text_bytes, payload;
  const char *dtype;
  fg_type type;
  int rank;
  int64_t shape[TENSOR_RANK], count;
  bool fortran_order;
};

/* Shape (2, 3) of elements of so many bytes; [2, 12] of so many bytes in all. */
#define NPY_DTYPE(text, bytes, fg)                                                                                               \
  {                                                                                                                              \
    NPY1, LITERAL("{'descr': '" text "', 'fortran_order': False, 'shape': (2, 3), }"), 6 * (bytes), text, fg, 2, {2, 3}, 6,      \
        false                                                                                                                    \
  }
#define SAFETENSORS_DTYPE(text, bytes, fg)                                                                                       \
  { SAFETENSORS, LITERAL(X(text, "[2,12]", "[0," #bytes "]")), bytes, text, fg, 2, {2, 12}, 24, false }

static const struct accepted accepted[] = {
    NPY_DTYPE("<f4", 4, FG_FP32),
    NPY_DTYPE("<f2", 2, FG_FP16),
    NPY_DTYPE("|b1", 1, FG_DEFAULT_TYPE),
    NPY_DTYPE("|i1", 1, FG_DEFAULT_TYPE),
    NPY_DTYPE("|u1", 1, FG_DEFAULT_TYPE),
    NPY_DTYPE("<i2", 2, FG_DEFAULT_TYPE),
    NPY_DTYPE("<u2", 2, FG_DEFAULT_TYPE),
    NPY_DTYPE("<i4", 4, FG_DEFAULT_TYPE),
    NPY_DTYPE("<u4", 4, FG_DEFAULT_TYPE),
    NPY_DTYPE("<i8", 8, FG_DEFAULT_TYPE),
    NPY_DTYPE("<u8", 8, FG_DEFAULT_TYPE),
    NPY_DTYPE("<f8", 8, FG_DEFAULT_TYPE),
    NPY_DTYPE("<f16", 16, FG_DEFAULT_TYPE),
    NPY_DTYPE("<c8", 8, FG_DEFAULT_TYPE),
    NPY_DTYPE("<c16", 16, FG_DEFAULT_TYPE),
    NPY_DTYPE("<c32", 32, FG_DEFAULT_TYPE),
    NPY_DTYPE("<V2", 2, FG_DEFAULT_TYPE), /* as numpy writes a BF16 that another package defined */
    NPY_DTYPE("|V1", 1, FG_DEFAULT_TYPE),
    NPY_DTYPE("|S5", 5, FG_DEFAULT_TYPE),
    NPY_DTYPE("<U5", 20, FG_DEFAULT_TYPE),
    NPY_DTYPE("<M8[ns]", 8, FG_DEFAULT_TYPE),
    NPY_DTYPE("<m8", 8, FG_DEFAULT_TYPE),
    {NPY2, LITERAL(F4("(2, 3)")), 24, "<f4", FG_FP32, 2, {2, 3}, 6, false},
    {NPY3, LITERAL(F4("(2, 3)")), 24, "<f4", FG_FP32, 2, {2, 3}, 6, false},
    {NPY1, LITERAL(F4("()")), 4, "<f4", FG_FP32, 0, {0}, 1, false},
    {NPY1, LITERAL(F4("(5,)")), 20, "<f4", FG_FP32, 1, {5}, 5, false},
    {NPY1, LITERAL(F4("(2, 3, )")), 24, "<f4", FG_FP32, 2, {2, 3}, 6, false},
    {NPY1, LITERAL(F4("(2L, 3L)")), 24, "<f4", FG_FP32, 2, {2, 3}, 6, false},
    {NPY1, LITERAL(F4("(0, 3)")), 0, "<f4", FG_FP32, 2, {0, 3}, 0, false},
    {NPY1, LITERAL(F4("(1, 2, 1, 1, 1, 1, 1, 3)")), 24, "<f4", FG_FP32, 8, {1, 2, 1, 1, 1, 1, 1, 3}, 6, false},
    {NPY1, LITERAL("{'shape':(2,3),'fortran_order':True,'descr':'<f4'}"), 24, "<f4", FG_FP32, 2, {2, 3}, 6, true},
    {NPY1, LITERAL("{'shape':(6,),'fortran_order':True,'descr':'<f4'}"), 24, "<f4", FG_FP32, 1, {6}, 6, false},
    {NPY1,
     LITERAL(" { \"descr\" : \"<f4\" ,\n\t\"shape\" : ( 2 , 3 ) , \"fortran_order\" : False } \n"),
     24,
     "<f4",
     FG_FP32,
     2,
     {2, 3},
     6,
     false},
    SAFETENSORS_DTYPE("U64", 192, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("I64", 192, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F64", 192, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("C64", 192, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F32", 96, FG_FP32),
    SAFETENSORS_DTYPE("U32", 96, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("I32", 96, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("BF16", 48, FG_BF16),
    SAFETENSORS_DTYPE("F16", 48, FG_FP16),
    SAFETENSORS_DTYPE("U16", 48, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("I16", 48, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F8_E5M2FNUZ", 24, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F8_E4M3FNUZ", 24, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F8_E8M0", 24, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F8_E4M3", 24, FG_E4M3),
    SAFETENSORS_DTYPE("F8_E5M2", 24, FG_E5M2),
    SAFETENSORS_DTYPE("I8", 24, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("U8", 24, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("BOOL", 24, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F6_E3M2", 18, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F6_E2M3", 18, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("F4", 12, FG_DEFAULT_TYPE),
    SAFETENSORS_DTYPE("OF_TOMORROW", 7, FG_DEFAULT_TYPE), /* listed; only its extent is known */
    {SAFETENSORS, LITERAL(X("F32", "[]", "[0,4]")), 4, "F32", FG_FP32, 0, {0}, 1, false},
    {SAFETENSORS, LITERAL(X("F32", "[3,0]", "[0,0]")), 0, "F32", FG_FP32, 2, {3, 0}, 0, false},
    {SAFETENSORS,
     LITERAL(X("F32", "[1,2,1,1,1,1,1,3]", "[0,24]") "  \n"),
     24,
     "F32",
     FG_FP32,
     8,
     {1, 2, 1, 1, 1, 1, 1, 3},
     6,
     false},
};

static void expect_accepted(const struct accepted *row, const struct tensor *tensor, const unsigned char *payload) {
  cr_expect_str_eq(tensor->name, row->form == SAFETENSORS ? "x" : "");
  cr_expect_str_eq(tensor->dtype, row->dtype);
  cr_expect_eq(tensor->type, row->type, "%s is %d", row->dtype, (int)tensor->type);
  cr_expect(tensor->rank == row->rank && memcmp(tensor->shape, row->shape, sizeof row->shape) == 0, "the shape of %s", row->text);
  cr_expect_eq(tensor->count, row->count, "%s has %" PRId64, row->text, tensor->count);
  cr_expect_eq(tensor->bytes, (int64_t)row->payload, "%s has %" PRId64 " bytes", row->text, tensor->bytes);
  cr_expect_eq(tensor->fortran_order, row->fortran_order, "%s", row->text);
  cr_expect_eq(tensor->data, payload, "the data of %s", row->text);
}

/* Each is as its row says; each part of it from the front, and one byte more, is refused. */
Test(files, reads_what_is_well_formed_and_no_part_of_it) {
  for (size_t i = 0; i < COUNT(accepted); i++) {
    const struct accepted *row = &accepted[i];
    size_t bytes;
    char error[TENSOR_ERROR_BYTES] = "";
    unsigned char *data = make(row->form, row->text, row->text_bytes, row->payload, &bytes);
    struct tensor_file *file = tensor_file_parse(data, bytes, "name", error);
    cr_assert(file, "%s", error);
    cr_assert_eq(tensor_file_count(file), 1);
    expect_accepted(row, tensor_file_get(file, 0), data + bytes - row->payload);
    cr_expect_eq(tensor_file_find(file, row->form == SAFETENSORS ? "x" : ""), tensor_file_get(file, 0));
    cr_expect_null(tensor_file_find(file, "y"));
    tensor_file_close(file);
    for (size_t part = 0; part <= bytes + 1; part++) {
      if (part == bytes) continue;
      unsigned char *other = calloc(part + !part, 1);
      memcpy(other, data, part < bytes ? part : bytes);
      file = tensor_file_parse(other, part, "name", error);
      cr_expect_null(file, "%zu of the %zu bytes of %s", part, bytes, row->text);
      if (!file) expect_sentence(error, "name", "");
      tensor_file_close(file);
      free(other);
    }
    free(data);
  }
}

Test(files, reads_the_elements_of_a_file_written_byte_by_byte) {
  static const char header[] = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }";
  char bytes[128] = "\x93NUMPY\x02";
  bytes[8] = 100; /* 12 + 100 = 112; the header is padded with spaces */
  memset(bytes + 12, ' ', 100);
  memcpy(bytes + 12, header, sizeof header - 1);
  memcpy(bytes + 112, "\0\0\x80\x3F\0\0\0\xC0\0\0\xC0\x7F\0\0\0\x80", 16); /* 1, -2, NaN, -0 */
  char error[TENSOR_ERROR_BYTES];
  make_folder();
  struct tensor_file *file = tensor_file_open(put("a.safetensors", bytes, sizeof bytes), error); /* the name does not count */
  cr_assert(file, "%s", error);
  const struct tensor *tensor = tensor_file_find(file, "");
  cr_assert(tensor && tensor->fortran_order && !tensor->misaligned && tensor->type == FG_FP32);
  const float *values = tensor->data;
  cr_expect(values[0] == 1 && values[1] == -2 && values[2] != values[2] && values[3] == 0);
  cr_expect_eq(memcmp(tensor->data, bytes + 112, 16), 0);
  tensor_file_close(file);
  remove_folder();
}

Test(files, orders_tensors_by_name_and_says_what_is_misaligned) {
  static const char header[] =
      "{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]},"
      "\"s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[3,7]},"
      "\"h\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[7,9]},"
      "\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[10,12]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9,10]},"
      "\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[12,12]},"
      "\"f\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]},"
      "\"__metadata__\":{\"format\":\"pt\"},\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}     ";
  static const char *const names[] = {"", "a", "b", "e", "f", "h", "s", "w"};
  size_t bytes, start = 8 + sizeof header - 1;
  char error[TENSOR_ERROR_BYTES];
  unsigned char *data = make(SAFETENSORS, LITERAL(header), 16, &bytes);
  struct tensor_file *file = tensor_file_parse(data, bytes, "name", error);
  cr_assert(file, "%s", error);
  cr_assert_eq(tensor_file_count(file), (int)COUNT(names));
  for (int i = 0; i < (int)COUNT(names); i++) {
    const struct tensor *tensor = tensor_file_get(file, i);
    cr_expect_str_eq(tensor->name, names[i]);
    cr_expect_eq(tensor_file_find(file, names[i]), tensor);
    size_t element = tensor->type == FG_FP32 ? 4 : tensor->type == FG_BF16 || tensor->type == FG_FP16 ? 2 : 1;
    cr_expect_eq(tensor->misaligned, (uintptr_t)tensor->data % element != 0, "'%s'", names[i]);
  }
  const struct tensor *scale = tensor_file_find(file, "s"), *aligned = tensor_file_find(file, "f");
  cr_expect_eq(memcmp(scale->data, "\3\4\5\6", 4), 0);
  cr_expect_eq(scale->misaligned, (start + 3) % 4 != 0);
  cr_expect_eq(aligned->misaligned, start % 4 != 0);
  cr_expect_null(tensor_file_find(file, "__metadata__"));
  tensor_file_close(file);
  free(data);
}

Test(files, keeps_a_sentence_whole_whatever_the_path_and_the_name) {
  char error[TENSOR_ERROR_BYTES], path[3000], header[3000];
  memset(path, 'p', sizeof path - 1);
  path[sizeof path - 1] = '\0';
  cr_assert_null(tensor_file_parse("12345678", 8, path, error));
  cr_expect(strncmp(error, "...ppp", 6) == 0 && strstr(error, "ppp: is neither"), "%s", error);
  cr_expect_lt(strlen(error), sizeof error - 1);

  size_t bytes;
  for (int length = 1; length < 2000; length += 333) {
    snprintf(header, sizeof header, "{\"\\u001b[31m\\n%.*s\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]}}", length,
             path);
    unsigned char *data = make(SAFETENSORS, header, strlen(header), 4, &bytes);
    cr_assert_null(tensor_file_parse(data, bytes, path, error));
    expect_sentence(strstr(error, "p: "), "p", "has a tensor '?[31m?p");
    cr_expect(strstr(error, "with data_offsets that are not two integers"), "%s", error);
    free(data);
  }
}

static void expect_not_opened(const char *path, const char *expected) {
  char error[TENSOR_ERROR_BYTES] = "";
  struct tensor_file *file = tensor_file_open(path, error);
  cr_expect_null(file, "%s was opened", path);
  if (!file) expect_sentence(error, path, expected);
  tensor_file_close(file);
}

Test(files, opens_nothing_but_regular_files) {
  make_folder();
  expect_not_opened(in_folder("absent"), "cannot be opened: No such file or directory");
  expect_not_opened(in_folder("absent/file"), "cannot be opened: No such file or directory");
  expect_not_opened("", "cannot be opened: No such file or directory");
  expect_not_opened(folder, "is a directory; it must be a regular file");
  expect_not_opened("/dev/null", "is a device; it must be a regular file");
  expect_not_opened(put("empty", "", 0), "is empty");
  cr_assert_eq(mkfifo(in_folder("fifo"), 0600), 0);
  expect_not_opened(in_folder("fifo"), "is a pipe; it must be a regular file");
  cr_assert_eq(symlink("loop", in_folder("loop")), 0);
  expect_not_opened(in_folder("loop"), "cannot be opened: Too many levels of symbolic links");
  remove_folder();
}

/* --- Round trips */

static const struct {
  int rank;
  int64_t shape[TENSOR_RANK], count;
} shapes[] = {
    {0, {0}, 1},
    {1, {5}, 5},
    {1, {0}, 0},
    {2, {3, 7}, 21},
    {2, {0, 7}, 0},
    {2, {7, 0}, 0},
    {3, {2, 3, 5}, 30},
    {4, {2, 1, 3, 5}, 30},
    {5, {2, 1, 3, 1, 5}, 30},
    {6, {1, 2, 3, 0, 4, 5}, 0},
    {7, {1, 1, 1, 1, 1, 1, 1}, 1},
    {8, {2, 1, 2, 1, 2, 1, 2, 3}, 48},
};

static const struct {
  fg_type type;
  const char *npy, *safetensors;
  int64_t bytes;
} types[] = {
    {FG_FP32, "<f4", "F32", 4},    {FG_FP16, "<f2", "F16", 2},    {FG_BF16, NULL, "BF16", 2},
    {FG_E4M3, NULL, "F8_E4M3", 1}, {FG_E5M2, NULL, "F8_E5M2", 1},
};

/* Bytes that differ from place to place and from `seed` to `seed`. */
static unsigned char *some_bytes(int64_t bytes, unsigned seed) {
  unsigned char *data = malloc((size_t)bytes + 1);
  for (int64_t i = 0; i < bytes; i++) data[i] = (unsigned char)(((unsigned)i + seed) * 2654435761u >> 24);
  return data;
}

static void expect_tensor(const struct tensor *found, const struct tensor *written, const char *dtype, int64_t element_bytes,
                          int64_t count) {
  cr_assert(found, "'%s' is missing", written->name);
  cr_expect_str_eq(found->dtype, dtype);
  cr_expect(found->type == written->type && found->rank == written->rank && found->count == count &&
                found->bytes == count * element_bytes && found->fortran_order == written->fortran_order && !found->misaligned,
            "%s of rank %d", dtype, written->rank);
  cr_expect_eq(memcmp(found->shape, written->shape, sizeof found->shape), 0);
  cr_expect_eq(memcmp(found->data, written->data, (size_t)(count * element_bytes)), 0);
}

Test(files, reads_back_what_it_wrote) {
  make_folder();
  char error[TENSOR_ERROR_BYTES];
  for (size_t s = 0; s < COUNT(shapes); s++) {
    struct tensor written[COUNT(types)];
    char names[COUNT(types)][16];
    for (size_t t = 0; t < COUNT(types); t++) {
      snprintf(names[t], sizeof names[t], "layer.%zu", t);
      written[t] = (struct tensor){.name = names[t], .type = types[t].type, .rank = shapes[s].rank};
      memcpy(written[t].shape, shapes[s].shape, sizeof written[t].shape);
      written[t].data = some_bytes(shapes[s].count * types[t].bytes, (unsigned)t);
      for (int fortran = 0; types[t].npy && fortran < 2; fortran++) {
        written[t].fortran_order = fortran && shapes[s].rank > 1;
        cr_assert(npy_write(in_folder("a.npy"), &written[t], error), "%s", error);
        struct tensor_file *file = tensor_file_open(in_folder("a.npy"), error);
        cr_assert(file, "%s", error);
        cr_expect_eq((uintptr_t)tensor_file_get(file, 0)->data % 64, 0);
        expect_tensor(tensor_file_find(file, ""), &written[t], types[t].npy, types[t].bytes, shapes[s].count);
        tensor_file_close(file);
      }
      written[t].fortran_order = false;
    }
    unlink(in_folder("a.safetensors"));
    cr_assert(safetensors_write(in_folder("a.safetensors"), written, COUNT(types), error), "%s", error);
    struct tensor_file *file = tensor_file_open(in_folder("a.safetensors"), error);
    cr_assert(file, "%s", error);
    cr_expect_eq(tensor_file_count(file), (int)COUNT(types));
    for (size_t t = 0; t < COUNT(types); t++) {
      expect_tensor(tensor_file_find(file, names[t]), &written[t], types[t].safetensors, types[t].bytes, shapes[s].count);
      free((void *)(uintptr_t)written[t].data);
    }
    tensor_file_close(file);
  }
  cr_expect_eq(each_entry(NULL), 2);
  remove_folder();
}

Test(files, writes_npy_as_numpy_does) {
  static const char header[] = "\x93NUMPY\x01\0\x76\0{'descr': '<f2', 'fortran_order': False, 'shape': (3,), }";
  make_folder();
  char error[TENSOR_ERROR_BYTES], expected[128 + 6];
  memset(expected, ' ', 128);
  memcpy(expected, header, sizeof header - 1);
  expected[127] = '\n';
  memcpy(expected + 128, "abcdef", 6);
  struct tensor tensor = {.type = FG_FP16, .rank = 1, .shape = {3}, .data = "abcdef"};
  cr_assert(npy_write(in_folder("a.npy"), &tensor, error), "%s", error);
  expect_content(in_folder("a.npy"), expected, sizeof expected);
  remove_folder();
}

/* Larger elements first, then by name; the data at a multiple of 8. */
Test(files, writes_safetensors_as_its_own_library_does) {
  static const char header[] = "{\"z\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                               "\"a\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[4,8]},"
                               "\"\xC3\xA9\\\"\\n\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[8,10]},"
                               "\"b\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[10,13]}}";
  make_folder();
  struct tensor tensors[] = {
      {.name = "b", .type = FG_E4M3, .rank = 1, .shape = {3}, .data = "klm"},
      {.name = "\xC3\xA9\"\n", .type = FG_FP16, .data = "ij"},
      {.name = "a", .type = FG_FP16, .rank = 2, .shape = {1, 2}, .data = "efgh"},
      {.name = "z", .type = FG_FP32, .rank = 1, .shape = {1}, .data = "abcd"},
  };
  char error[TENSOR_ERROR_BYTES], expected[MOST_BYTES];
  uint64_t header_bytes = (sizeof header - 1 + 7) / 8 * 8;
  memset(expected, ' ', sizeof expected);
  memcpy(expected, &header_bytes, 8);
  memcpy(expected + 8, header, sizeof header - 1);
  memcpy(expected + 8 + header_bytes, "abcdefghijklm", 13);
  cr_assert(safetensors_write(in_folder("a"), tensors, COUNT(tensors), error), "%s", error);
  expect_content(in_folder("a"), expected, 8 + header_bytes + 13);
  remove_folder();
}

Test(files, keeps_what_else_a_file_holds) {
  static const char header[] = "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\xC3\xA9\"},"
                               "\"bytes\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                               "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[3,7]},"
                               "\"new kind\":{\"dtype\":\"OF_TOMORROW\",\"shape\":[9],\"data_offsets\":[7,9]},"
                               "\"double\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[9,17]}}";
  make_folder();
  size_t bytes;
  char error[TENSOR_ERROR_BYTES], content[MOST_BYTES];
  unsigned char *data = make(SAFETENSORS, LITERAL(header), 17, &bytes);
  const char *path = put("a.safetensors", data, bytes);
  free(data);
  struct tensor tensors[] = {
      {.name = "w", .type = FG_BF16, .rank = 2, .shape = {1, 2}, .data = "wxyz"},
      {.name = "more", .dtype = "I16", .rank = 1, .shape = {1}, .data = "ab"},
  };
  cr_assert(safetensors_write(path, tensors, 2, error), "%s", error);
  struct tensor_file *file = tensor_file_open(path, error);
  cr_assert(file, "%s", error);
  cr_expect_eq(tensor_file_count(file), 5);
  const struct {
    const char *name, *dtype, *data;
    int64_t bytes, place; /* the order: 8, 2, 2, 1 bytes, not known */
  } expected[] = {
      {"double", "F64", "\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10", 8, 0},
      {"w", "BF16", "wxyz", 4, 8},
      {"more", "I16", "ab", 2, 12},
      {"bytes", "U8", "\0\1\2", 3, 14},
      {"new kind", "OF_TOMORROW", "\7\10", 2, 17},
  };
  const char *first = tensor_file_find(file, "double")->data;
  cr_expect_eq((uintptr_t)first % 8, 0);
  for (size_t i = 0; i < COUNT(expected); i++) {
    const struct tensor *tensor = tensor_file_find(file, expected[i].name);
    cr_assert(tensor, "'%s' is lost", expected[i].name);
    cr_expect_str_eq(tensor->dtype, expected[i].dtype);
    cr_expect(tensor->bytes == expected[i].bytes && memcmp(tensor->data, expected[i].data, (size_t)tensor->bytes) == 0, "'%s'",
              expected[i].name);
    cr_expect_eq((const char *)tensor->data - first, expected[i].place, "'%s'", expected[i].name);
  }
  tensor_file_close(file);
  size_t length = get(path, content, sizeof content - 1);
  static const char metadata[] = "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\xC3\xA9\"},";
  cr_expect(length > 8 + sizeof metadata && memcmp(content + 8, metadata, sizeof metadata - 1) == 0);

  /* Written again with nothing new: not a byte changes. */
  char again[MOST_BYTES];
  cr_assert(safetensors_write(path, NULL, 0, error), "%s", error);
  cr_expect(get(path, again, sizeof again) == length && memcmp(again, content, length) == 0);
  remove_folder();
}

/* Nearly all of its 6 GB are a hole, and stay untouched. */
Test(files, opens_a_huge_file_and_touches_only_what_is_read) {
  static const char header[] = "{\"huge\":{\"dtype\":\"F8_E4M3\",\"shape\":[3,2000000000],\"data_offsets\":[0,6000000000]},"
                               "\"last\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[6000000000,6000000008]}}";
  const float last[2] = {1.5f, -2.5f};
  make_folder();
  size_t bytes;
  unsigned char *start = make(SAFETENSORS, LITERAL(header), 0, &bytes);
  int descriptor = open(put("huge.safetensors", start, bytes), O_WRONLY);
  free(start);
  bool possible = ftruncate(descriptor, (off_t)bytes + 6000000008) == 0 &&
                  pwrite(descriptor, last, sizeof last, (off_t)bytes + 6000000000) == sizeof last;
  int reason = errno;
  close(descriptor);
  if (!possible) {
    remove_folder();
    cr_skip_test("no file of 6 GB can be made in %s: %s", folder, strerror(reason));
  }
  struct rusage before, after;
  char error[TENSOR_ERROR_BYTES];
  getrusage(RUSAGE_SELF, &before);
  struct tensor_file *file = tensor_file_open(in_folder("huge.safetensors"), error);
  cr_assert(file, "%s", error);
  cr_expect_eq(memcmp(tensor_file_find(file, "last")->data, last, sizeof last), 0);
  cr_expect_eq(tensor_file_find(file, "huge")->count, INT64_C(6000000000));
  getrusage(RUSAGE_SELF, &after);
  cr_expect_lt(after.ru_minflt - before.ru_minflt, 2000, "%ld page faults", after.ru_minflt - before.ru_minflt);
  tensor_file_close(file);
  remove_folder();
}

/* --- Writers that fail */

static const char old_content[] = "as it was";
static const struct tensor small = {.name = "x", .type = FG_FP32, .rank = 1, .shape = {2}, .data = "abcdefgh"};

/* Both writers; the folder has so many entries before and after. */
static void expect_not_written(const char *path, const struct tensor *tensor, const char *expected, int entries) {
  char error[TENSOR_ERROR_BYTES] = "";
  cr_expect(!npy_write(path, tensor, error), "%s was written", path);
  expect_sentence(error, path, expected);
  cr_expect(!safetensors_write(path, tensor, 1, error), "%s was written", path);
  expect_sentence(error, path, expected);
  cr_expect_eq(each_entry(NULL), entries, "%s left something", path);
}

Test(files, refuses_outputs_that_cannot_be_replaced) {
  make_folder();
  expect_not_written(in_folder("absent/out"), &small, "No such file or directory", 0);
  expect_not_written("", &small, "No such file or directory", 0);
  expect_not_written(folder, &small, "is a directory; ", 0);
  cr_assert_eq(mkfifo(in_folder("fifo"), 0600), 0);
  expect_not_written(in_folder("fifo"), &small, "is a pipe; output must go to a regular file", 1);
  int ends[2];
  char path[64];
  cr_assert_eq(pipe(ends), 0);
  snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
  expect_not_written(path, &small, "is a pipe; output must go to a regular file", 1);
  cr_assert_eq(symlink("loop", in_folder("loop")), 0);
  expect_not_written(in_folder("loop"), &small, "Too many levels of symbolic links", 2);
  put("file", old_content, sizeof old_content);
  expect_not_written(in_folder("file/out"), &small, "Not a directory", 3);
  char long_path[5000];
  memset(long_path, 'p', sizeof long_path - 1);
  long_path[sizeof long_path - 1] = '\0';
  char error[TENSOR_ERROR_BYTES];
  cr_expect(!npy_write(long_path, &small, error));
  cr_expect(strstr(error, "cannot be written: File name too long"), "%s", error);
  remove_folder();
}

Test(files, does_not_write_safetensors_over_another_kind) {
  make_folder();
  char error[TENSOR_ERROR_BYTES];
  const char *path = put("a.safetensors", old_content, sizeof old_content);
  cr_expect(!safetensors_write(path, &small, 1, error));
  expect_sentence(error, path, "is neither .npy nor .safetensors");
  expect_content(path, old_content, sizeof old_content);

  cr_assert(npy_write(path, &small, error), "%s", error);
  char content[MOST_BYTES];
  size_t bytes = get(path, content, sizeof content);
  cr_expect(!safetensors_write(path, &small, 1, error));
  expect_sentence(error, path, "is a .npy file");
  expect_content(path, content, bytes);

  put("a.safetensors", "", 0); /* an empty file has nothing to lose */
  cr_expect(safetensors_write(path, &small, 1, error), "%s", error);
  cr_expect_eq(each_entry(NULL), 1);
  remove_folder();
}

Test(files, refuses_tensors_that_a_format_cannot_hold) {
  static const struct {
    struct tensor tensor;
    const char *npy, *safetensors; /* NULL: it can */
  } rows[] = {
      {{.name = "x", .type = FG_BF16, .data = "ab"}, "it must be FP32 or FP16", NULL},
      {{.name = "x", .type = FG_E4M3, .data = "ab"}, "it must be FP32 or FP16", NULL},
      {{.name = "x", .dtype = "I8", .data = "ab"}, "it must be FP32 or FP16", NULL},
      {{.name = "x", .dtype = "<f4", .data = "ab"}, "it must be FP32 or FP16", "has a dtype that .safetensors does not know"},
      {{.name = "x", .type = (fg_type)6, .data = "ab"}, "it must be FP32 or FP16", "has a dtype that .safetensors does not know"},
      {{.name = "x", .dtype = "F4", .rank = 1, .shape = {3}, .data = "ab"}, "it must be FP32 or FP16", "ends within a byte"},
      {{.name = "x", .type = FG_FP32, .rank = 9, .data = "abcd"}, "more than 8 dimensions", "more than 8 dimensions"},
      {{.name = "x", .type = FG_FP32, .rank = 1, .shape = {-1}, .data = "abcd"}, "a negative dimension", "a negative dimension"},
      {{.name = "x", .type = FG_FP32, .rank = 2, .shape = {INT64_MAX, 2}, .data = "abcd"}, "too large to address", "too large"},
      {{.name = "x", .type = FG_FP32, .rank = 2, .shape = {1, 1}, .data = "abcd", .fortran_order = true}, NULL, "first index"},
      {{.name = "__metadata__", .type = FG_FP32, .data = "abcd"}, NULL, "has the name that the format keeps for itself"},
      {{.name = "\xFF", .type = FG_FP32, .data = "abcd"}, NULL, "has a name that is not UTF-8"},
  };
  make_folder();
  const char *path = in_folder("out");
  for (size_t i = 0; i < COUNT(rows); i++) {
    char error[TENSOR_ERROR_BYTES] = "";
    cr_expect_eq(npy_write(path, &rows[i].tensor, error), !rows[i].npy, "row %zu: %s", i, error);
    if (rows[i].npy) expect_sentence(error, path, rows[i].npy);
    unlink(path);
    cr_expect_eq(safetensors_write(path, &rows[i].tensor, 1, error), !rows[i].safetensors, "row %zu: %s", i, error);
    if (rows[i].safetensors) expect_sentence(error, path, rows[i].safetensors);
    unlink(path);
    cr_expect_eq(each_entry(NULL), 0, "row %zu left something", i);
  }
  char error[TENSOR_ERROR_BYTES];
  cr_expect(!safetensors_write(path, (struct tensor[]){small, small}, 2, error));
  expect_sentence(error, path, "two tensors are named 'x'");
  cr_expect_eq(each_entry(NULL), 0);
  remove_folder();
}

/* --- Writers that fail half way */

static const char *target;
static struct tensor large;

static bool write_npy(char error[TENSOR_ERROR_BYTES]) { return npy_write(target, &large, error); }
static bool write_safetensors(char error[TENSOR_ERROR_BYTES]) { return safetensors_write(target, &large, 1, error); }

static void limit_file_size(void) { setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 16, 1 << 16}); }

static void lower_privileges(void) {
  if (getuid() == 0 && setuid(65534)) _exit(99); /* root may write anywhere */
}

/* Exit status of a process of its own that prepares and then writes: 0 written, 1 refused with a sentence that holds `expected`. */
static int write_apart(void (*prepare)(void), bool (*write_it)(char *), const char *expected) {
  pid_t child = fork();
  if (child == 0) {
    char error[TENSOR_ERROR_BYTES] = "";
    prepare();
    if (write_it(error)) _exit(0);
    _exit(strncmp(error, target, strlen(target)) == 0 && strstr(error, expected) ? 1 : 2);
  }
  int status = 0;
  cr_assert_eq(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void end_large(void) { free((void *)(uintptr_t)large.data); }

static void begin_large(const char *name) {
  large = (struct tensor){.name = "x", .type = FG_FP32, .rank = 1, .shape = {700001}, .data = some_bytes(4 * 700001, 0)};
  make_folder();
  target = in_folder(name);
}

/* A safetensors file of one tensor, small. */
static size_t put_old(char content[MOST_BYTES]) {
  char error[TENSOR_ERROR_BYTES];
  cr_assert(safetensors_write(target, &small, 1, error), "%s", error);
  return get(target, content, MOST_BYTES);
}

static void ignore_signal(void) {
  signal(SIGXFSZ, SIG_IGN);
  limit_file_size();
}

static void clean_up_and_exit(int signal_number) {
  tensor_file_cleanup();
  _exit(40 + (signal_number != SIGXFSZ));
}

static void catch_signal(void) {
  signal(SIGXFSZ, clean_up_and_exit);
  limit_file_size();
}

/* More than one call of write() takes. */
Test(files, writes_a_large_tensor) {
  begin_large("out");
  bool (*const writers[])(char *) = {write_npy, write_safetensors};
  for (size_t i = 0; i < COUNT(writers); i++) {
    char error[TENSOR_ERROR_BYTES];
    unlink(target);
    cr_assert(writers[i](error), "%s", error);
    struct tensor_file *file = tensor_file_open(target, error);
    cr_assert(file, "%s", error);
    expect_tensor(tensor_file_get(file, 0), &large, i ? "F32" : "<f4", 4, large.shape[0]);
    tensor_file_close(file);
  }
  remove_folder();
  end_large();
}

/* The limit on a file's size stands for a full disk: the first write ends short, the next fails. */
Test(files, leaves_nothing_when_the_disk_is_full) {
  char content[MOST_BYTES];
  begin_large("out");
  for (int existing = 0; existing < 2; existing++) {
    size_t bytes = existing ? put_old(content) : 0;
    cr_expect_eq(write_apart(ignore_signal, write_npy, "cannot be written: File too large"), 1);
    cr_expect_eq(write_apart(ignore_signal, write_safetensors, "cannot be written: File too large"), 1);
    if (existing) expect_content(target, content, bytes);
    cr_expect_eq(each_entry(NULL), existing);
  }
  remove_folder();
  end_large();
}

Test(files, leaves_nothing_when_interrupted) {
  char content[MOST_BYTES];
  begin_large("out");
  size_t bytes = put_old(content);
  cr_expect_eq(write_apart(catch_signal, write_npy, ""), 40);
  cr_expect_eq(write_apart(catch_signal, write_safetensors, ""), 40);
  expect_content(target, content, bytes);
  cr_expect_eq(each_entry(NULL), 1);
  tensor_file_cleanup(); /* nothing is being written: nothing happens */
  expect_content(target, content, bytes);
  remove_folder();
  end_large();
}

Test(files, asks_for_permission) {
  char content[MOST_BYTES];
  begin_large("out");
  size_t bytes = put_old(content);
  cr_assert_eq(chmod(folder, 0777), 0);
  cr_assert_eq(chmod(target, 0444), 0); /* the folder could take another file, but this one is protected */
  cr_expect_eq(write_apart(lower_privileges, write_npy, "cannot be written: Permission denied"), 1);
  cr_expect_eq(write_apart(lower_privileges, write_safetensors, "cannot be written: Permission denied"), 1);
  cr_assert_eq(chmod(target, 0), 0);
  cr_expect_eq(write_apart(lower_privileges, write_safetensors, "cannot be opened: Permission denied"), 1);
  cr_assert_eq(chmod(target, 0666), 0);
  cr_assert_eq(chmod(folder, 0555), 0); /* the file could be written, but not beside it */
  cr_expect_eq(write_apart(lower_privileges, write_npy, "no file can be made in its directory: Permission denied"), 1);
  cr_expect_eq(write_apart(lower_privileges, write_safetensors, "no file can be made in its directory: Permission denied"), 1);
  cr_assert_eq(chmod(folder, 0777), 0);
  expect_content(target, content, bytes);
  cr_expect_eq(each_entry(NULL), 1);
  cr_expect_eq(write_apart(lower_privileges, write_npy, ""), 0);
  cr_expect_eq(each_entry(NULL), 1);
  remove_folder();
  end_large();
}

static int allocations_left;

static void *allocate_some(size_t bytes) { return allocations_left-- == 0 ? NULL : malloc(bytes); }

/* Of the memory that JSON takes, each piece in turn is missing. */
Test(files, leaves_nothing_when_memory_ends) {
  begin_large("out");
  struct tensor other = small;
  other.name = "other";
  char error[TENSOR_ERROR_BYTES], content[MOST_BYTES];
  size_t bytes = put_old(content);
  json_set_alloc_funcs(allocate_some, free);
  bool failed = true;
  int missing = 0;
  for (; failed; missing++) {
    allocations_left = missing;
    bool written = safetensors_write(target, &other, 1, error);
    failed = allocations_left < 0;
    allocations_left = -1;
    cr_expect(written || failed);
    if (!written) {
      expect_sentence(error, target, "");
      expect_content(target, content, bytes);
    } else {
      struct tensor_file *file = tensor_file_open(target, error);
      cr_assert(file, "%s", error);
      cr_expect(tensor_file_find(file, "x") && tensor_file_find(file, "other"), "without allocation %d", missing);
      tensor_file_close(file);
      put("out", content, bytes);
    }
    cr_expect_eq(each_entry(NULL), 1);
  }
  cr_expect_gt(missing, 50);
  remove_folder();
  end_large();
}

/* Without root's rights, so that a fault of ours cannot replace the device. */
Test(files, never_replaces_a_device) {
  target = "/dev/full";
  large = small;
  cr_expect_eq(write_apart(lower_privileges, write_npy, "is a device; output must go to a regular file"), 1);
  cr_expect_eq(write_apart(lower_privileges, write_safetensors, "is a device; output must go to a regular file"), 1);
}

/* --- What a replaced file keeps */

static mode_t mode_of(const char *path) {
  struct stat status;
  cr_assert_eq(lstat(path, &status), 0, "%s: %s", path, strerror(errno));
  return status.st_mode;
}

Test(files, gives_new_files_the_usual_permissions_and_keeps_those_of_old_ones) {
  make_folder();
  char error[TENSOR_ERROR_BYTES];
  const mode_t masks[] = {022, 077, 0};
  for (size_t i = 0; i < COUNT(masks); i++) {
    umask(masks[i]);
    unlink(in_folder("new"));
    cr_assert(npy_write(in_folder("new"), &small, error), "%s", error);
    cr_expect_eq(mode_of(in_folder("new")), S_IFREG | (0666 & ~masks[i]));
    cr_assert_eq(chmod(in_folder("new"), 0640), 0);
    cr_assert(npy_write(in_folder("new"), &small, error), "%s", error);
    cr_expect_eq(mode_of(in_folder("new")), S_IFREG | 0640);
  }
  remove_folder();
}

Test(files, writes_through_symbolic_links) {
  make_folder();
  char error[TENSOR_ERROR_BYTES];
  const char *other = in_folder("other");
  cr_assert_eq(mkdir(other, 0700), 0);
  cr_assert_eq(symlink("other/second", in_folder("first")), 0);
  cr_assert_eq(symlink(in_folder("file"), in_folder("other/second")), 0);
  for (int existing = 0; existing < 2; existing++) { /* at first the links lead to where nothing is */
    cr_assert(npy_write(in_folder("first"), &small, error), "%s", error);
    cr_expect(S_ISLNK(mode_of(in_folder("first"))) && S_ISLNK(mode_of(in_folder("other/second"))));
    cr_expect(S_ISREG(mode_of(in_folder("file"))));
    cr_expect_eq(each_entry(NULL), 3);
  }
  char through_link[MOST_BYTES];
  size_t bytes = get(in_folder("first"), through_link, sizeof through_link);
  expect_content(in_folder("file"), through_link, bytes);
  unlink(in_folder("other/second"));
  remove_folder();
}

/* A reader keeps what it has open: the old file lives on under its mapping. */
Test(files, replaces_the_file_that_it_reads_from) {
  make_folder();
  char error[TENSOR_ERROR_BYTES];
  const char *path = in_folder("a.npy");
  cr_assert(npy_write(path, &small, error), "%s", error);
  struct tensor_file *file = tensor_file_open(path, error);
  cr_assert(file, "%s", error);
  struct tensor halves = *tensor_file_get(file, 0);
  halves.type = FG_FP16;
  halves.shape[0] = 4;
  cr_assert(npy_write(path, &halves, error), "%s", error);
  cr_expect_eq(memcmp(tensor_file_get(file, 0)->data, "abcdefgh", 8), 0);
  tensor_file_close(file);
  file = tensor_file_open(path, error);
  cr_assert(file, "%s", error);
  expect_tensor(tensor_file_get(file, 0), &halves, "<f2", 2, 4);
  tensor_file_close(file);
  remove_folder();
}

/* A temporary that a killed process left is in nobody's way. */
Test(files, steps_over_temporaries_of_others) {
  make_folder();
  char name[64], error[TENSOR_ERROR_BYTES];
  snprintf(name, sizeof name, ".finegemm-%ld-0.tmp", (long)getpid());
  const char *left = put(name, old_content, sizeof old_content);
  cr_assert(npy_write(in_folder("a.npy"), &small, error), "%s", error);
  expect_content(left, old_content, sizeof old_content);
  cr_expect_eq(each_entry(NULL), 2);
  remove_folder();
}
