// Shared by the catalog's own files only.
#pragma once

#include "base/mutex.h"
#include "control/store/catalog.h"
#include "control/store/sqlite.h"

namespace hf::control {

struct Catalog::Inner {
  explicit Inner(Database opened) : database(std::move(opened)) {}
  Mutex mutex;
  Database database HF_GUARDED_BY(mutex);
  const std::shared_ptr<Notice> events_changed = std::make_shared<Notice>();
};

Micros catalog_now();

}  // namespace hf::control
