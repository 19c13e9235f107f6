// Who may run which VM: what titles.h keeps and judges, with this vault's keys, words and log.

#include "vault/core/names.h"
#include "vault/core/vault.h"

namespace hf::vault {

// The keys that were pinned at pairing, and this site's own.
Result<const title::Ed25519Verifier*> Vault::verifier() {
  if (!verifier_) {
    title::Ed25519Verifier known;
    known.add(site_.identity.site, site_.signing.public_key());
    for (const SiteIdentity& peer : TRY(recipients())) {
      known.add(peer.site, peer.signing_public_key);
    }
    verifier_ = std::move(known);
  }
  return &*verifier_;
}

// The VM is another site's now: its keeper gets the key no more.
void Vault::take_back(const VmId& vm, const Caller& caller) {
  if (released_.erase(vm) == 0) return;
  audit_.append_or_keep({.event = "revoke", .vm = vm, .uid = caller.uid, .pid = caller.pid});
}

Result<TitleLearned> Vault::title_learn(const VmId& vm, const SiteId& from, ByteSpan bundle,
                                        bool begin, const Caller& caller) {
  TitleLearned learned = TRY(titles_.learn(vm, from, bundle, begin, *TRY(verifier())));
  if (learned.fence) take_back(vm, caller);
  if (!directory_.exists(key_file_name(vm))) TRY(forget_oldest_titles(vm, caller));
  if (learned.head_changed) {
    audit_.append_or_keep({.event = "title_learned",
                           .vm = vm,
                           .site = learned.view.head->statement().issuer,
                           .uid = caller.uid,
                           .pid = caller.pid,
                           .outcome = title::to_string(learned.view.head->statement().kind)});
  }
  return learned;
}

// Of VMs that are not here any more.
Status Vault::forget_oldest_titles(const VmId& but, const Caller& caller) {
  for (const VmId& gone : TRY(titles_.forget_oldest(but))) {
    audit_.append_or_keep(
        {.event = "title_forgotten", .vm = gone, .uid = caller.uid, .pid = caller.pid});
  }
  return {};
}

Result<Bytes> Vault::title_answer(const title::Question& question, const OwnWord& word) {
  OwnWord said = word;
  // A site without the key could not run it.
  if (!directory_.exists(key_file_name(question.vm))) said.prepared = false;
  return titles_.answer(question, said);
}

Result<title::Judged<void>> Vault::title_take_answer(const VmId& vm, ByteSpan answer) {
  return titles_.take_answer(vm, answer, *TRY(verifier()));
}

Result<TitleSigned> Vault::title_propose(const TitleProposal& proposal, const Caller& caller) {
  const VmId& vm = proposal.vm;
  // Its silence would count one day, and it might take the VM: an operator chooses it, not who
  // asks.
  if (proposal.kind == title::Kind::kProtect && !TRY(is_member(vm, proposal.subject))) {
    audit_refusal(vm, caller, "title_signed");
    return TitleSigned(
        title::refuse(title::Cause::kWordNeeded, title::Action::kProtect, proposal.subject));
  }
  const Titles::Processes processes{
      .still = {.keepers_dead = !released_.contains(vm) && !handed_out_.contains(vm),
                .qemu_reaped = !keepers_.guest_runs(vm)}};
  const TitleSigned outcome = TRY(titles_.propose(proposal, processes));
  if (!outcome) return outcome;
  // The chain itself is the record; a log that cannot be written is no reason to unsay it.
  audit_.append_or_keep({.event = "title_signed",
                         .vm = vm,
                         .site = proposal.subject,
                         .uid = caller.uid,
                         .pid = caller.pid,
                         .outcome = title::to_string(proposal.kind)});
  if (outcome->head->statement().holder != site_.identity.site) take_back(vm, caller);
  return outcome;
}

Result<GivenWord> Vault::give_word(const VmId& vm, title::Act act, const Caller& caller) {
  TRY(audit_.append({.event = "give_word", .vm = vm, .uid = caller.uid, .pid = caller.pid}));
  return titles_.give_word(vm, act);
}

Status Vault::open_gate(const VmId& vm, const Caller& caller) {
  TRY(released_to(vm, caller, "open_gate"));
  const auto judged = TRY(titles_.open_gate(vm, keepers_.guest_runs(vm)));
  if (!judged) return refused_by_title(vm, judged.error(), "the VM was not opened");
  return {};
}

Status Vault::show_line(const VmId& vm, ShownLine line, const Caller& caller) {
  TRY(check_keeper(vm, caller, "show_line"));
  titles_.show_line(vm, std::move(line));
  return {};
}

}  // namespace hf::vault
