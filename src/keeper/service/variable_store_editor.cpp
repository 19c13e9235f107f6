#include "keeper/service/variable_store_editor.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "keeper/guest_state/items.h"
#include "keeper/thread_waiter.h"
#include "secure_boot/change/change.h"
#include "secure_boot/change/variables_json.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::keeper {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSettleWait{5};
constexpr int kSettleTries = 400;  // 2 s: held bytes go within 20 ms

Error connected() {
  return Error{.code = ErrorCode::kConflict,
               .cause = "the VM's machine is connected to its variable store",
               .effect = "the store was not changed",
               .mend = "stop the VM first, or change the variables from inside the guest"};
}

Error moving() {
  return Error{.code = ErrorCode::kConflict,
               .cause = "the variable store is being written to",
               .effect = "the store was not changed",
               .mend = "try again"};
}

Result<std::vector<secure_boot::Change>> parse_changes(
    const std::vector<keeper_protocol::VariableChange>& wanted) {
  if (wanted.empty() || wanted.size() > secure_boot::kChangesMax) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "1 to 64 changes at a time"};
  }
  std::vector<secure_boot::Change> changes;
  for (const keeper_protocol::VariableChange& change : wanted) {
    changes.push_back({.variable = change.variable,
                       .action = TRY(secure_boot::parse_change_action(change.action)),
                       .data = change.data});
  }
  return changes;
}

}  // namespace

Bytes VariableStoreEditor::image_now() {
  return on_reactor(parts_.reactor, [this] { return parts_.flash.image(); });
}

Result<Bytes> VariableStoreEditor::image_at_rest() {
  for (int i = 0; i < kSettleTries; ++i) {
    auto image = on_reactor(parts_.reactor, [this]() -> Result<std::optional<Bytes>> {
      if (parts_.clients() > 0) return connected();
      if (!parts_.flash.settled()) return std::optional<Bytes>();
      return std::optional<Bytes>(parts_.flash.image());
    });
    if (!image.ok()) return std::move(image).error();
    if (std::optional<Bytes>& settled = *image; settled) return *std::move(settled);
    std::this_thread::sleep_for(kSettleWait);
  }
  return moving();
}

Status VariableStoreEditor::replace(const Bytes& base, Bytes image) {
  HF_ASSERT(image.size() == base.size());
  const auto [first, same] = std::ranges::mismatch(image, base);
  if (first == image.end()) return {};
  const auto from = static_cast<size_t>(first - image.begin());
  size_t to = image.size();
  while (image[to - 1] == base[to - 1]) --to;
  if (to - from > journal::kRecordDataMax) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "the change spans more of the store than one record takes",
                 .effect = "the store was not changed"};
  }
  ThreadWaiter durable;
  TRY(on_reactor(parts_.reactor, [&]() -> Status {
    if (parts_.clients() > 0) return connected();
    if (!parts_.flash.settled() || parts_.flash.image() != base) return moving();
    parts_.writer.write_durable(kUefiStoreOffset + from, ByteSpan(image).subspan(from, to - from),
                                durable);
    parts_.flash.replace(std::move(image));
    return {};
  }));
  return durable.wait();
}

Result<sys::JsonObject> VariableStoreEditor::show() {
  const Bytes image = image_now();
  const secure_boot::VariableStore store = TRY(secure_boot::VariableStore::parse(image));
  const secure_boot::SecureBootVariables found = secure_boot::secure_boot_variables(store);
  sys::JsonArray saved;
  const std::vector<SavedStore> stores = TRY(parts_.items.saved_stores());
  for (const SavedStore& entry : stores) {
    saved.push_back(sys::JsonObject{{"name", entry.name}, {"time_us", entry.time.value}});
  }
  return sys::JsonObject{{"variables", secure_boot::to_json(found)}, {"saved", std::move(saved)}};
}

Result<sys::JsonObject> VariableStoreEditor::edit(
    const std::vector<keeper_protocol::VariableChange>& wanted) {
  const std::vector<secure_boot::Change> changes = TRY(parse_changes(wanted));
  const Bytes base = TRY(image_at_rest());
  secure_boot::VariableStore store = TRY(secure_boot::VariableStore::parse(base));
  const auto results = TRY(secure_boot::apply_changes(
      store, changes, secure_boot::EfiTime::from(parts_.clock.wall_time())));
  TRY(replace(base, Bytes(store.image().begin(), store.image().end())));
  sys::JsonArray done;
  for (const secure_boot::ChangeResult& result : results) {
    done.push_back(sys::JsonObject{{"variable", result.variable},
                                   {"added", result.added},
                                   {"removed", result.removed},
                                   {"changed", result.changed},
                                   {"words", result.words}});
  }
  return sys::JsonObject{{"results", std::move(done)}};
}

Status VariableStoreEditor::save(const std::string& name) {
  return parts_.items.save_store(name, image_now(), parts_.clock.wall_time());
}

Status VariableStoreEditor::restore(const std::string& name) {
  Bytes saved = TRY(parts_.items.saved_store(name));
  const Bytes base = TRY(image_at_rest());
  if (saved.size() != base.size()) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "the saved variable store is of another size",
                 .effect = "the store was not changed"};
  }
  return replace(base, std::move(saved));
}

Status VariableStoreEditor::forget(const std::string& name) {
  return parts_.items.forget_store(name);
}

}  // namespace hf::keeper
