// A title as the API shows it.
#include "control/title/title_view.h"

#include <algorithm>

#include "control/protection/protections.h"
#include "control/title/titles.h"

namespace hf::control {
namespace {

std::string named(Services& services, const SiteId& site) {
  if (site.is_zero()) return "nobody";
  if (site == services.site.site_id) return services.site.name;
  return services.protections->peer_name(site);
}

sys::JsonArray members_with(Services& services, const title::Statement& title,
                            title::Standing standing) {
  sys::JsonArray names;
  for (const title::Member& member : title.members.all()) {
    if (member.standing == standing && member.site != title.holder)
      names.emplace_back(named(services, member.site));
  }
  return names;
}

sys::JsonObject statement_view(Services& services, const title::Signed& one) {
  const title::Statement& said = one.statement();
  sys::JsonObject view{
      {"digest", one.digest().hex()},
      {"kind", std::string(to_string(said.kind))},
      {"by", named(services, said.issuer)},
      {"holder", named(services, said.holder)},
      {"standbys", members_with(services, said, title::Standing::kStandby)},
      {"being_seeded", members_with(services, said, title::Standing::kBeingSeeded)},
      {"epoch", said.epoch.value},
      {"time_us", said.time.value}};
  if (said.word != title::WordKind::kNone) view["word"] = std::string(to_string(said.word));
  if (!said.line.empty()) view["position"] = said.line.position.sequence.value;
  return view;
}

}  // namespace

std::optional<SiteId> rival_before_expulsion(const title::Statement& head,
                                             const std::optional<SiteId>& first_rival,
                                             const SiteId& self, const SiteId& site) {
  if (head.holder != self || !first_rival || head.members.find(site) == nullptr) return {};
  // The first is the one that is settled with, as title::Judge has it; its holder is expelled so.
  return *first_rival == site ? std::nullopt : first_rival;
}

Result<sys::JsonObject> title_view(Services& services, const VmRow& row) {
  const vault::TitleView known = TRY(services.vault.title(row.id));
  sys::JsonObject view = statement_view(services, *known.head);
  view["here"] = holds(known, services.site.site_id);
  view["statements"] = known.depth;
  sys::JsonArray rivals;
  for (const title::SignedPtr& rival : known.rivals)
    rivals.push_back(statement_view(services, *rival));
  view["rivals"] = std::move(rivals);
  if (known.in_doubt) view["in_doubt"] = true;
  return view;
}

Result<sys::JsonArray> title_chain(Services& services, const VmRow& row) {
  sys::JsonArray chain;
  for (const title::SignedPtr& one : TRY(whole_chain(services, row.id)))
    chain.push_back(statement_view(services, *one));
  return chain;
}

Result<Epoch> tenure_epoch(Services& services, VmId vm) {
  const vault::TitleView view = TRY(services.vault.title(vm));
  const std::vector<title::SignedPtr> chain = TRY(whole_chain(services, vm));
  const auto find = [&](const Digest& digest) {
    const auto at = std::ranges::find(chain, digest, &title::Signed::digest);
    return at == chain.end() ? nullptr : *at;
  };
  title::SignedPtr at = view.head;
  for (size_t steps = chain.size(); steps > 0; --steps) {
    const title::Statement& said = at->statement();
    const title::SignedPtr before = find(said.follows);
    const title::SignedPtr beside = find(said.beside);
    const auto held = [&](const title::SignedPtr& one) {
      return one != nullptr && one->statement().holder == said.holder;
    };
    // A give-up is the other's tenure going on.
    if (!held(before) && !held(beside)) break;
    at = held(before) ? before : beside;
  }
  return at->statement().epoch;
}

}  // namespace hf::control
