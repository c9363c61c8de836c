/* live_page.h - live_page.html, as the build embeds it. */
#ifndef CLI_LIVE_PAGE_H
#define CLI_LIVE_PAGE_H

extern const unsigned char live_page_html[];
extern const unsigned long live_page_html_size;

#endif
