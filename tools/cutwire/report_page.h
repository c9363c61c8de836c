/* report_page.h - the page of finished runs: the live page, with their numbers in it. */
#ifndef CLI_REPORT_PAGE_H
#define CLI_REPORT_PAGE_H

#include "cli.h"

/* Adds the run in this folder: its metrics.jsonl. CLI_GO_ON, or CLI_FAILURE after a message. */
int report_page_add(json_t *runs, const char *folder, const json_t *config);
/* Likewise. */
int report_page_write(const char *path, json_t *runs);

#endif
