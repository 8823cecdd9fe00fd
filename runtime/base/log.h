/* log.h - IG_LOG=word,word and IG_DUMP=word,word.  Nothing is written unless the user asked for the
 * word. */
#ifndef RT_LOG_H
#define RT_LOG_H
#include "ingot/base.h"
bool rt_log_on(const char *word);  /* in IG_LOG  */
bool rt_dump_on(const char *word); /* in IG_DUMP */
void rt_log(const char *word, const char *fmt, ...)
    IG_PRINTF(2, 3);                              /* one line to stderr when on */
void rt_dump(const char *word, const char *text); /* a whole text to stderr when on */
#endif
