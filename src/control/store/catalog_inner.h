// Shared by the catalog's own files only.
#pragma once

#include "base/mutex.h"
#include "control/store/catalog.h"
#include "control/store/sqlite.h"

namespace hf::control {

struct Catalog::Inner {
  Inner(std::string where, Database opened) : path(std::move(where)), database(std::move(opened)) {}
  const std::string path;
  Mutex mutex;
  Database database HF_GUARDED_BY(mutex);
  const std::shared_ptr<Notice> events_changed = std::make_shared<Notice>();
};

Micros catalog_now();

}  // namespace hf::control
