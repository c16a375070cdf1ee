#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct listing {
  fg_cached *list;
  int count;
};

/* Again with more room, until all fit. */
static struct listing look(void) {
  struct listing found = {0};
  for (int room = 64;; room = found.count) {
    found.list = claim(room, sizeof *found.list, "the list of files");
    require(fg_cache_look(NULL, found.list, room, &found.count), "");
    if (found.count <= room) return found;
    release(found.list);
  }
}

static const char *day(int64_t seconds) {
  time_t when = (time_t)seconds;
  struct tm date;
  char written[64] = "";
  if (!gmtime_r(&when, &date) || !strftime(written, sizeof written, "%Y-%m-%d %H:%M", &date)) return "?";
  return text("%s", written);
}

static json_t *json_files(const struct listing *found) {
  json_t *files = json_array();
  for (int i = 0; i < found->count; i++) {
    const fg_cached *file = &found->list[i];
    json_array_append_new(files, json_pack("{so so sI sI sb so}", "file", json_text(file->file), "kernel",
                                           *file->kernel ? json_text(file->kernel) : json_null(), "bytes", file->bytes, "used_s",
                                           file->used_s, "valid", *file->why == '\0', "why",
                                           *file->why ? json_text(file->why) : json_null()));
  }
  return files;
}

static void print_list(const struct listing *found) {
  const char *const headings[] = {"last used (UTC)", "bytes", "valid", "kernel"};
  struct table *table = table_begin("lrll", headings);
  int64_t bytes = 0;
  for (int i = 0; i < found->count; i++) {
    const fg_cached *file = &found->list[i];
    table_cell(table, "%s", day(file->used_s));
    table_cell(table, "%" PRId64, file->bytes);
    table_cell(table, "%s", *file->why ? "no" : "yes");
    table_cell(table, "%s", *file->kernel ? file->kernel : file->file);
    bytes += file->bytes;
  }
  if (found->count) {
    table_print(table);
    printf("\n");
  }
  printf("%d kernel%s, %" PRId64 " bytes\n", found->count, found->count == 1 ? "" : "s", bytes);
}

static void print_verdict(const struct listing *found, int bad) {
  for (int i = 0; i < found->count; i++)
    if (*found->list[i].why)
      printf("%s would not be loaded: %s\n", printable(found->list[i].file), printable(found->list[i].why));
  printf("%s%d of %d file%s would be loaded.\n", bad ? "\n" : "", found->count - bad, found->count, found->count == 1 ? "" : "s");
}

static enum outcome list(bool verify, bool json) {
  fg_finding place = finding_named("cache");
  struct listing found = look();
  int bad = 0;
  for (int i = 0; i < found.count; i++) bad += *found.list[i].why != '\0';
  if (json) {
    json_print(json_pack("{so so si}", "cache", json_text(place.found), "files", json_files(&found), "invalid", bad));
  } else if (verify) {
    print_verdict(&found, bad);
  } else {
    printf("%s\n\n", printable(place.found));
    print_list(&found);
  }
  return verify && bad ? DIFFERENT : DONE;
}

static enum outcome clear(bool json) {
  int count;
  require(fg_cache_empty(NULL, &count), "");
  if (json)
    json_print(json_pack("{si}", "removed", count));
  else
    printf("%d file%s removed\n", count, count == 1 ? "" : "s");
  return DONE;
}

static enum outcome export(const char *to, bool json) {
  int count; require(fg_cache_ship(to, &count), "");
  if (json) json_print(json_pack("{so si}", "directory", json_text(to), "copied", count));
  else printf("%d kernel%s copied to %s; where it arrives, FG_CACHE_PATH names it\n", count, count == 1 ? "" : "s",
              printable(to));
  return DONE;
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  const char *directory = NULL, *arguments[2];
  int json = 0;
  struct poptOption options[] = {
      {"directory", '\0', POPT_ARG_STRING, &directory, 0, "the cache in this directory instead of the user's", "DIR"},
      OPTION_JSON(json),
      OPTIONS_END};
  int given = parse(command, argc, argv, options, 1, 2, arguments);
  const char *action = arguments[0];
  bool exports = strcmp(action, "export") == 0;
  if (exports && given == 1) fail(BAD_USAGE, "DIR is missing; usage: finegemm cache export DIR");
  if (!exports && given == 2)
    fail(BAD_USAGE, "'%s' is one argument too many; usage: finegemm cache %s", arguments[1], command->arguments);
  if (directory && *directory == '\0') fail(BAD_USAGE, "--directory is ''; it must be a directory");
  if (directory && setenv("FG_CACHE_DIR", directory, 1) != 0)
    fail(REFUSED, "%s: no memory for --directory", fg_status_name(FG_OUT_OF_MEMORY));
  if (exports) return export(arguments[1], json);
  if (strcmp(action, "clear") == 0) return clear(json);
  bool verify = strcmp(action, "verify") == 0;
  if (!verify && strcmp(action, "list") != 0)
    fail(BAD_USAGE, "'%s' is nothing to do with a cache; it must be list, verify, clear or export", action);
  return list(verify, json);
}

const struct command command_cache = {
    "cache", "list|verify|clear|export DIR [OPTION...]", "Lists, checks, empties or copies the cache of compiled kernels",
    "\nlist: what is kept. verify: exits with 1 if a file would not be loaded, and says which and why. clear: removes every kernel.\n"
    "export: copies every valid kernel to DIR, to be shipped and named in FG_CACHE_PATH.",
    run};
