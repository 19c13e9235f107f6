// Published: the part that every SealedSource has: a log's durable records and its base files, for
// a peer. Needs no key.
#pragma once

#include "journal/ship/feed.h"
#include "journal/ship/seed.h"

namespace hf::journal {

struct Published {
  Published(Storage& storage, RecordLog& log, OpenFiles& files)
      : feed(storage, log), seed(storage, log, files) {}
  bool busy() const { return feed.busy() || seed.busy(); }

  Feed feed;
  SeedSource seed;
};

}  // namespace hf::journal
