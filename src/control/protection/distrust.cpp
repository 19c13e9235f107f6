// The end of trust in a site that stood by for a VM, as far as that VM is concerned: whatever that
// site has signed and answers, the VM is this one's, and that one has no part in it any more.
#include <algorithm>
#include <thread>

#include "control/core/log.h"
#include "control/protection/protections.h"
#include "control/protection/replica_rules.h"
#include "control/store/catalog_inner.h"
#include "control/title/titles.h"
#include "control/vm/vm_operations.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kDead = 20s;  // the fence of a title that was learned
constexpr auto kLook = 20ms;
constexpr auto kShow = 2s;
constexpr auto kTurn = 5s;

bool has_rival_of(const vault::TitleView& view, const SiteId& site) {
  return std::ranges::any_of(view.rivals, [&](const title::SignedPtr& rival) {
    return rival->statement().holder == site;
  });
}

Error holds_nothing(const VmRow& row, const std::string& site) {
  return {.code = ErrorCode::kConflict,
          .cause = "site " + site + " has no part in VM \"" + row.name + "\"",
          .effect = "nothing was changed",
          .mend = "holdfast vm title " + row.name};
}

}  // namespace

Result<sys::JsonObject> Protections::take_back_from(VmId vm, const PeerRow& site,
                                                    const DisableOptions& said,
                                                    Progress& progress) {
  const VmRow row = TRY(services_.catalog->vm(vm));
  const vault::TitleView view = TRY(services_.vault.title(vm));
  const SiteId self = services_.site.site_id;
  if (!view.head->statement().names(site.site) && !has_rival_of(view, site.site))
    return holds_nothing(row, site.name);
  TRY(services_.catalog->audit(said.actor, "failover settle --distrust", row.name, site.name));
  if (holds(view, self)) {
    progress.step("expel site " + site.name);
    TRY(services_.titles->sign(
        row, {.kind = title::Kind::kExpel, .subject = site.site, .word = said.word}));
    const Result<ProtectionRow> protection = services_.catalog->protection(vm);
    if (protection.ok() && protection->peer == site.site)
      TRY(end_without_peer(vm, said.actor, progress));
    return vm_summary(services_, TRY(services_.catalog->vm(vm)));
  }
  if (!holds(view, site.site)) return holds_nothing(row, site.name);
  TRY(take_from(row, site.site, said, progress));
  // What follows is what follows any taking.
  return fail_over(services_, vm, {.actor = said.actor}, progress);
}

// The VM's title names this site when it returns. Given again, it goes on where it was.
Status Protections::take_from(const VmRow& row, SiteId site, const DisableOptions& said,
                              Progress& progress) {
  const VmId vm = row.id;
  const std::optional<Turns::Turn> turn = turns_.take(vm, kTurn);
  if (!turn) return at_work(row.name, services_.site.name, "nothing was changed");
  progress.step("see that nothing of the VM runs here");
  const auto end = std::chrono::steady_clock::now() + kDead;
  while (services_.units->running(qemu_unit(vm)) || services_.units->running(keeper_unit(vm))) {
    if (std::chrono::steady_clock::now() >= end) {
      return Error{.code = ErrorCode::kTimeout,
                   .cause = "processes of VM \"" + row.name + "\" are still there",
                   .effect = "nothing was changed",
                   .mend = "holdfast vm stop " + row.name + " --force; then the same again"};
    }
    std::this_thread::sleep_for(kLook);
  }
  end_stream(vm);
  const vault::KeyInfo key = TRY(services_.vault.key_info(vm));
  ProtectionRow own{.vm = vm,
                    .peer = site,
                    .direction = Direction::kIn,
                    .journal_public_key = to_hex(key.journal_public_key),
                    .minted_at = key.minted_at,
                    .created = catalog_now()};
  TRY(replicas_.stop(vm));
  TRY(services_.catalog->stand_by(row, own));
  // What is here is this site's own line. Its keeper takes nothing from anybody: who could send to
  // it is not to be believed. Once it is signed, the title says so, too (Replicas::take_stream).
  own.peer = services_.site.site_id;
  const VmRow now = TRY(services_.catalog->vm(vm));
  TRY(replicas_.create(now, own));
  TRY(replicas_.seal(vm));
  const keeper_protocol::Client keeper(services_.paths.run_file(vm, "control.sock"));
  TRY(keeper.ask(keeper_protocol::ShowLine{}, kShow));
  progress.step("sign the VM over to this site");
  TRY(services_.titles->sign(now, {.kind = title::Kind::kTake, .subject = {}, .word = said.word}));
  log_warning("VM " + row.name + " was taken back from a site that is distrusted");
  return {};
}

}  // namespace hf::control
