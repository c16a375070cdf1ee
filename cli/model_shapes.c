/* The (n, k) of a model's linear layers: what its weights B [n, k] are. */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void shapes_add(struct shapes *shapes, struct shape shape) {
  for (int64_t i = 0; i < shapes->count; i++) {
    const struct shape *known = &shapes->list[i];
    if (known->n == shape.n && known->k == shape.k && known->groups == shape.groups && known->b_type == shape.b_type) return;
  }
  if ((shapes->count & (shapes->count - 1)) == 0) { /* as large as the next power of two */
    struct shape *larger = claim(shapes->count ? 2 * shapes->count : 1, sizeof *larger, "shapes");
    if (shapes->count) memcpy(larger, shapes->list, (size_t)shapes->count * sizeof *larger);
    release(shapes->list);
    shapes->list = larger;
  }
  shapes->list[shapes->count++] = shape;
}

/* --- config.json */

struct config {
  const char *path;
  json_t *root;
  json_t *object; /* the part of it that describes the language model */
};

/* 0: it is not there, or null. */
static int64_t find_size(const struct config *config, const char *key) {
  enum { MOST = 1 << 28 };
  json_t *value = json_object_get(config->object, key);
  if (!value || json_is_null(value)) return 0;
  if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > MOST) {
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    char *copy = text("%.80s", shown ? shown : "?");
    free(shown);
    fail(BAD_INPUT, "%s: %s is %s; it must be an integer from 1 to %d", config->path, key, copy, MOST);
  }
  return json_integer_value(value);
}

static int64_t need_size(const struct config *config, const char *key) {
  int64_t size = find_size(config, key);
  if (!size) fail(BAD_INPUT, "%s: %s is missing", config->path, key);
  return size;
}

static struct config read_config(const char *path) {
  struct stat status;
  json_error_t error;
  if (stat(path, &status) != 0) fail(BAD_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
  if (!S_ISREG(status.st_mode)) fail(BAD_INPUT, "%s: it must be a regular file", path);
  json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
  if (!root) fail(BAD_INPUT, "%s: is not JSON: line %d: %s", path, error.line, error.text);
  if (!json_is_object(root)) fail(BAD_INPUT, "%s: is not a JSON object, as a model's config.json is", path);
  json_t *language = json_object_get(root, "text_config"); /* a model for pictures, too, has it in there */
  return (struct config){path, root, json_is_object(language) && !json_object_get(root, "hidden_size") ? language : root};
}

static void add(struct shapes *shapes, const char *name, int64_t n, int64_t k) {
  shapes_add(shapes, (struct shape){.name = name, .n = n, .k = k});
}

/* Multi-head latent attention: queries, keys and values go through narrow matrices. */
static void add_latent_attention(struct shapes *shapes, const struct config *config, int64_t hidden, int64_t heads) {
  int64_t q_rank = find_size(config, "q_lora_rank"), kv_rank = need_size(config, "kv_lora_rank");
  int64_t nope = need_size(config, "qk_nope_head_dim"), rope = need_size(config, "qk_rope_head_dim");
  int64_t v = need_size(config, "v_head_dim");
  if (q_rank) {
    add(shapes, "q_a_proj", q_rank, hidden);
    add(shapes, "q_a_proj, kv_a_proj_with_mqa", q_rank + kv_rank + rope, hidden);
    add(shapes, "q_b_proj", heads * (nope + rope), q_rank);
  } else {
    add(shapes, "q_proj", heads * (nope + rope), hidden);
  }
  add(shapes, "kv_a_proj_with_mqa", kv_rank + rope, hidden);
  add(shapes, "kv_b_proj", heads * (nope + v), kv_rank);
  add(shapes, "o_proj", hidden, heads * v);
}

static void add_attention(struct shapes *shapes, const struct config *config, int64_t hidden, int64_t heads) {
  int64_t kv_heads = find_size(config, "num_key_value_heads"), dim = find_size(config, "head_dim");
  if (!kv_heads) kv_heads = heads;
  if (!dim && hidden % heads)
    fail(BAD_INPUT, "%s: head_dim is missing, and hidden_size = %" PRId64 " is no multiple of num_attention_heads = %" PRId64,
         config->path, hidden, heads);
  if (!dim) dim = hidden / heads;
  add(shapes, "q_proj", heads * dim, hidden);
  add(shapes, "k_proj, v_proj", kv_heads * dim, hidden);
  add(shapes, "q_proj, k_proj, v_proj", (heads + 2 * kv_heads) * dim, hidden);
  add(shapes, "o_proj", hidden, heads * dim);
}

/* gate and up apart, and as most engines have them, in one. */
static void add_mlp(struct shapes *shapes, const char *whose, int64_t hidden, int64_t width, int64_t experts) {
  const char *const names[] = {"gate_proj, up_proj", "gate_proj with up_proj", "down_proj"};
  const int64_t n[] = {width, 2 * width, hidden}, k[] = {hidden, hidden, width};
  for (int i = 0; i < 3; i++)
    shapes_add(shapes, (struct shape){.name = text("%s%s", whose, names[i]), .n = n[i], .k = k[i], .groups = experts});
}

static void add_mlps(struct shapes *shapes, const struct config *config, int64_t hidden) {
  static const char *const counts[] = {"n_routed_experts", "num_experts", "num_local_experts"};
  int64_t width = find_size(config, "intermediate_size"), expert_width = find_size(config, "moe_intermediate_size"), experts = 0;
  for (int i = 0; i < 3 && !experts; i++) experts = find_size(config, counts[i]);
  if (!width && !expert_width) fail(BAD_INPUT, "%s: intermediate_size and moe_intermediate_size are both missing", config->path);
  if (expert_width && !experts)
    fail(BAD_INPUT, "%s: moe_intermediate_size is there, but none of n_routed_experts, num_experts and num_local_experts",
         config->path);
  bool all_experts = experts && !expert_width; /* as in Mixtral, whose layers have no other */
  if (width && !all_experts) add_mlp(shapes, "", hidden, width, 0);
  if (experts) add_mlp(shapes, "experts' ", hidden, expert_width ? expert_width : width, experts);
  int64_t shared = find_size(config, "n_shared_experts"), shared_width = find_size(config, "shared_expert_intermediate_size");
  if (shared && expert_width) shared_width = shared * expert_width;
  if (shared_width) add_mlp(shapes, "shared expert's ", hidden, shared_width, 0);
}

struct shapes shapes_of_config(const char *path) {
  struct config config = read_config(path);
  struct shapes shapes = {0};
  int64_t hidden = need_size(&config, "hidden_size"), heads = need_size(&config, "num_attention_heads");
  if (find_size(&config, "kv_lora_rank"))
    add_latent_attention(&shapes, &config, hidden, heads);
  else
    add_attention(&shapes, &config, hidden, heads);
  add_mlps(&shapes, &config, hidden);
  json_decref(config.root);
  return shapes;
}

/* --- .safetensors */

struct shapes shapes_of_weights(const char *path) {
  const struct tensor_file *file = file_open(path);
  struct shapes shapes = {0};
  for (int i = 0; i < tensor_file_count(file); i++) {
    const struct tensor *tensor = tensor_file_get(file, i);
    fg_scaling scaling;
    bool is_fp8 = tensor->type == FG_E4M3 || tensor->type == FG_E5M2;
    if (!is_fp8 || tensor->rank < 2 || tensor->rank > 3) continue;
    if (!scales_beside(file, tensor, FG_DEFAULT_SCALING, &scaling) || scaling == FG_DEFAULT_SCALING) continue;
    int last = tensor->rank - 1;
    shapes_add(&shapes, (struct shape){.name = printable(tensor->name),
                                       .n = tensor->shape[last - 1],
                                       .k = tensor->shape[last],
                                       .groups = tensor->rank == 3 ? tensor->shape[0] : 0,
                                       .b_type = tensor->type});
  }
  if (!shapes.count)
    fail(BAD_INPUT, "%s: holds no FP8 matrix with its scales beside it; 'finegemm inspect %s' lists what it holds", path, path);
  return shapes;
}
