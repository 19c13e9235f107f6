// View: the files that one position is read from, held as long as somebody reads it. Immutable: a
// new map or a collection makes a new one, and a file goes when the last view that has it is gone.
#pragma once

#include <map>

#include "journal/chain/lookup.h"
#include "journal/chain/schedule.h"
#include "journal/format/manifest.h"

namespace hf::journal {

struct EngineFile {
  uint64_t id = 0;  // a kept file's number, a segment's ordinal
  FileId file;
  std::string name;
  uint64_t length = 0;
};
using FilePtr = std::shared_ptr<const EngineFile>;

struct KeptTable {
  Table table;
  FilePtr file;
  KeptFile entry;
  SegmentRun run() const { return {.a = entry.a, .b = entry.b}; }
};
using TablePtr = std::shared_ptr<const KeptTable>;

struct View {
  std::vector<TablePtr> maps;         // the chain, the newest first
  std::vector<TablePtr> locators;     // the newest first
  std::vector<TablePtr> deaths;       // the oldest first
  std::map<uint64_t, FilePtr> young;  // segments that were not collected, by ordinal
  std::map<uint64_t, FilePtr> units;  // by number
  // What the parts ask by: filled from the above.
  Chain chain;
  std::vector<const Table*> locator_tables;
  std::map<uint64_t, FilePtr> tables;

  void fill() {
    for (const TablePtr& map : maps) chain.maps.push_back(&map->table);
    for (const TablePtr& locator : locators) locator_tables.push_back(&locator->table);
    for (const auto* list : {&maps, &locators, &deaths}) {
      for (const TablePtr& table : *list) tables.emplace(table->table.number, table->file);
    }
  }
};
using ViewPtr = std::shared_ptr<const View>;
// Tables of a position's newest segments, which have no map yet: the newest first.
using Fronts = std::vector<std::shared_ptr<const Present>>;

}  // namespace hf::journal
