/* page: the files of the page that the server shows in a browser.
 *
 * They are in the program (coordinator/web, embedded by CMake) and need no key:
 * the page asks its reader for one.  A policy forbids it every script, style
 * and connection but this server's, and everything that turns text into HTML. */
#ifndef COORDINATOR_WEB_PAGE_H
#define COORDINATOR_WEB_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "net/http_server.h"

/* The client reads pages: a browser that was given this address. */
bool page_wanted(const struct http_exchange *x);
/* The whole answer: the file, or a 304 where the client has it already. false: there is none of this name. */
bool page_reply(struct http_exchange *x, const char *name);
/* Names of all files; NULL behind the last. */
const char *page_file(size_t i);

#endif
