/* log.c - words in IG_LOG and IG_DUMP. */
#include "runtime/base/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether a comma-separated list holds the word. */
static bool log_has(const char *list, const char *word) {
    size_t n = strlen(word);
    while (list && *list) {
        size_t k = strcspn(list, ",");
        if ((k == n && !memcmp(list, word, n)) || (k == 3 && !memcmp(list, "all", 3))) return true;
        list += k + (list[k] == ',');
    }
    return false;
}

bool rt_log_on(const char *word) { return log_has(getenv("IG_LOG"), word); }
bool rt_dump_on(const char *word) { return log_has(getenv("IG_DUMP"), word); }

void rt_log(const char *word, const char *fmt, ...) {
    if (!rt_log_on(word)) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "ingot: %s: %s\n", word, line);
}

void rt_dump(const char *word, const char *text) {
    if (rt_dump_on(word)) fprintf(stderr, "; dump: %s\n%s", word, text);
}
