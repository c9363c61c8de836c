/* report_page.h - the page (live_page.html) with numbers in it: of a live run, or of finished ones. */
#ifndef CLI_REPORT_PAGE_H
#define CLI_REPORT_PAGE_H

#include "cli.h"

/* Adds the run in this folder: its metrics.jsonl. CLI_GO_ON, or CLI_FAILURE after a message. */
int report_page_add(json_t *runs, const char *folder, const json_t *config);
/* Likewise. */
int report_page_write(const char *path, json_t *runs);
/* The page with these data in it. The caller frees it; NULL: out of memory. */
char *report_page_make(const char *json, size_t *size);

#endif
