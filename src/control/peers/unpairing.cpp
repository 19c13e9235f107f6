// The end of trust in another site, as far as it is holdfastd's. That its keys are recipients no
// more, an operator says to the vault.
#include <algorithm>
#include <thread>

#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/store/catalog_inner.h"
#include "control/title/title_view.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kJobLimit = 120s;
constexpr auto kLookAgain = 20ms;

Result<std::vector<ProtectionRow>> protections_with(Catalog& catalog, SiteId site) {
  std::vector<ProtectionRow> rows = TRY(catalog.protections());
  std::erase_if(rows, [&](const ProtectionRow& row) { return row.peer != site; });
  return rows;
}

// Those that are there are in `evict`, and those in `evict` are there.
Status check_named(Catalog& catalog, const PeerRow& peer, const std::vector<ProtectionRow>& rows,
                   const std::vector<VmId>& evict) {
  std::string names;
  std::string words;
  for (const ProtectionRow& row : rows) {
    const std::string name = TRY(catalog.vm(row.vm)).name;
    words += " --evict " + name;
    if (std::ranges::find(evict, row.vm) != evict.end()) continue;
    names += (names.empty() ? "" : ", ") + name;
  }
  if (!names.empty()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VMs are protected with site " + peer.name + ": " + names,
                 .effect = "the site is still paired, and nothing was changed",
                 .mend =
                     "holdfast protection disable, for each at its own site; or, replicas here "
                     "being removed: holdfast site unpair " +
                     peer.name + words};
  }
  for (const VmId& vm : evict) {
    if (std::ranges::find(rows, vm, &ProtectionRow::vm) != rows.end()) continue;
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "VM \"" + TRY(catalog.vm(vm)).name + "\" is not protected with site " + peer.name,
        .effect = "the site is still paired, and nothing was changed",
        .mend = "holdfast protection show"};
  }
  return {};
}

// Of VMs held here whose title goes on naming the site.
struct Left {
  sys::JsonArray vms;
  std::string words;
};

// The vault expels the site as it forgets it, but where a third site's rival has to be settled
// with first.
Left left_in_titles(Services& services, const SiteId& site) {
  Left left;
  const Result<std::vector<VmRow>> rows = services.catalog->vms();
  if (!rows.ok()) return left;
  for (const VmRow& row : *rows) {
    const Result<vault::TitleView> title = services.vault.title(row.id);
    if (!title.ok()) continue;
    std::optional<SiteId> first;
    if (!title->rivals.empty()) first = title->rivals.front()->statement().holder;
    const auto rival =
        rival_before_expulsion(title->head->statement(), first, services.site.site_id, site);
    if (!rival) continue;
    left.vms.emplace_back(row.name);
    left.words += (left.words.empty() ? "" : "; ") + ("VM \"" + row.name) +
                  "\" still names it, since site " + services.protections->peer_name(*rival) +
                  " has a title of that VM, too: holdfast failover settle " + row.name +
                  " --keep " + services.site.name + ", then holdfast protection disable " +
                  row.name + " --without-peer";
  }
  return left;
}

}  // namespace

// As a job for the VM, so that no other works on it meanwhile.
Status PeerService::part(const ProtectionRow& protection, const std::string& actor, const By& by) {
  const VmId vm = protection.vm;
  const bool replica = protection.direction == Direction::kIn;
  const std::string name = TRY(services_.catalog->vm(vm)).name;
  const uint64_t id = TRY(services_.jobs->submit(
      replica ? "replica-evict" : "protection-end", name,
      [this, vm, replica, actor](Progress& progress) -> Result<sys::JsonObject> {
        Protections& protections = *services_.protections;
        return replica ? protections.evict_replica(vm, actor, progress)
                       : protections.end_without_peer(vm, actor, progress);
      },
      {.by = by}));
  const auto end = std::chrono::steady_clock::now() + kJobLimit;
  for (;;) {
    JobLook job = TRY(services_.jobs->look(id));
    if (job.ended && TRY(sys::get_string(job.view, "state")) == "done") return {};
    if (job.ended) return sys::error_from_json(*TRY(sys::get_object(job.view, "error")));
    if (std::chrono::steady_clock::now() >= end) break;
    std::this_thread::sleep_for(kLookAgain);
  }
  return Error{.code = ErrorCode::kTimeout,
               .cause = "job " + std::to_string(id) + " for \"" + name + "\" does not end",
               .effect = "the site is still paired, and not connected to",
               .mend = "holdfast job show " + std::to_string(id) + "; then unpair again"};
}

Result<sys::JsonObject> PeerService::unpair(const PeerRow& peer, const std::vector<VmId>& evict,
                                            const std::string& actor, Progress& progress) {
  const std::vector<ProtectionRow> rows = TRY(protections_with(*services_.catalog, peer.site));
  TRY(check_named(*services_.catalog, peer, rows, evict));
  TRY(services_.catalog->audit(actor, "site unpair", peer.name, peer.site.hex()));
  // From here on it is a stranger to the link. What fails below is mended by the same command.
  progress.step("end the connection to " + peer.name);
  link_->remove_peer(peer.site);
  for (const ProtectionRow& row : rows) {
    progress.step("end what there is of VM " + TRY(services_.catalog->vm(row.vm)).name);
    TRY(part(row, actor, progress.by()));
  }
  const Left left = left_in_titles(services_, peer.site);
  TRY(services_.catalog->remove_peer(peer.site));
  log_info("site " + peer.name + " (" + peer.site.hex() + ") was unpaired by " + actor);
  services_.happened("peer.unpaired", kTheSite,
                     "the trust in site " + peer.name + " (" + peer.site.hex() + ") has ended" +
                         (left.vms.empty() ? "" : "; " + left.words),
                     progress.by(), left.vms.empty() ? Severity::kInfo : Severity::kWarning);
  sys::JsonObject done{{"peer", peer.name}, {"peer_site_id", peer.site.hex()}, {"paired", false}};
  if (!left.vms.empty()) {
    done["still_named_by"] = left.vms;
    done["note"] = left.words;
  }
  return done;
}

}  // namespace hf::control
