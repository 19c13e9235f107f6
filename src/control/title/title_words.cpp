// What the vaults' refusals mean to people, and what leads on.
#include "control/protection/protections.h"
#include "control/title/titles.h"

namespace hf::control {
namespace {

using title::Cause;

// What is so, of a VM "NAME"; `site` is the other one that it is about.
std::string cause_of(Cause cause, const std::string& vm, const std::string& site) {
  switch (cause) {
    case Cause::kNotHolder:
      return "site " + site + " holds VM " + vm;
    case Cause::kIsHolder:
      return "this site holds VM " + vm + " already";
    case Cause::kNotMember:
      return "this site has no part in VM " + vm + " any more";
    case Cause::kNotStandby:
      return "site " + site + " does not stand by for VM " + vm + " yet";
    case Cause::kRival:
      return "two sites were told to run VM " + vm + ": this one, and site " + site;
    case Cause::kInDoubt:
      return "this vault was put back from a copy, and does not know what it has signed for VM " +
             vm;
    case Cause::kNoLine:  // nothing, or a vault that began anew was shown nothing yet
      return "the vault was shown nothing of VM " + vm + " by this site's keeper";
    case Cause::kLineNotWhole:
      return "this site does not have all of VM " + vm;
    case Cause::kPeerNotWhole:
    case Cause::kNotOnOurLine:
      return "site " + site + " does not have all of VM " + vm + " yet";
    case Cause::kNotPrepared:
      return "site " + site + " could not run VM " + vm;
    case Cause::kProcessesAlive:
      return "processes of VM " + vm + " are not known to be dead";
    case Cause::kNotAccepted:
      return "site " + site + " has not said that it takes VM " + vm;
    case Cause::kNotAsked:
    case Cause::kNotAnswered:
    case Cause::kAnswerTooOld:
      return "site " + site + " has not answered about VM " + vm + " just now";
    case Cause::kPeerOtherHead:
      return "site " + site + " knows another title of VM " + vm;
    case Cause::kStandbySilent:
      return "site " + site + ", which stands by for VM " + vm + ", does not answer";
    case Cause::kHolderAnswers:
      return "site " + site + ", which holds VM " + vm + ", answers, or did so within 5 seconds";
    case Cause::kWordNeeded:
    case Cause::kWordUnknown:
    case Cause::kWordOfOther:
      return "no operator's word for this stands: it was used, it is over a minute old, or a site "
             "that it names was heard from";
    case Cause::kNobodySilent:
      return "every site that stands by for VM " + vm + " answers";
    case Cause::kNotCrossed:
      return "both sites gave VM " + vm + " up at once; site " + site + " does so again by itself";
    case Cause::kEnded:
      return "VM " + vm + " was deleted";
    default:
      return "the title of VM " + vm + " does not allow it: " + std::string(to_string(cause));
  }
}

std::string mend_of(const title::Refused& refused, const std::string& vm, const std::string& site) {
  using title::Action;
  switch (refused.action) {
    case Action::kAsk:
    case Action::kAskWithHead:
    case Action::kWait:
    case Action::kLearn:
      return "try again";
    case Action::kStart:
      return "holdfast vm start " + vm;
    case Action::kStop:
      return "holdfast vm stop " + vm + " --force";
    case Action::kProtect:
    case Action::kAcceptThere:
      return "holdfast protection enable " + vm + " --to " + site;
    case Action::kShip:
    case Action::kSeed:
      return "holdfast protection show " + vm + " says how far it is; then try again";
    case Action::kTake:
      return "if site " + site + " is off and stays off: holdfast failover unplanned " + vm +
             " --source-is-off";
    case Action::kGoOn:
      return "bring site " + site + " back; if it does not run the VM and stays off: holdfast vm " +
             "start " + vm + " --without-peer";
    case Action::kHandOver:
      return "holdfast failover unplanned " + vm + ", which has it stopped there first";
    case Action::kUseOtherSite:
      return "at site " + site + ": holdfast vm show " + vm;
    case Action::kSettle:
      return "holdfast failover settle " + vm + " --keep SITE, which of the two is to have it";
    case Action::kNewVm:
      return "use it at the site that holds it; what is here of it is removed by: holdfast replica "
             "evict " +
             vm;
    case Action::kGiveWord:
      return "give the command again";
    default:
      return "holdfast vm show " + vm + " at both sites";
  }
}

}  // namespace

Error refused_by_title(Services& services, const VmRow& row, const title::Refused& refused,
                       std::string effect) {
  const std::string site = refused.site.is_zero() ? std::string("the other site")
                                                  : services.protections->peer_name(refused.site);
  using title::Action;
  const bool only_time = refused.action == Action::kAsk || refused.action == Action::kAskWithHead ||
                         refused.action == Action::kWait || refused.action == Action::kLearn ||
                         refused.cause == Cause::kHolderAnswers;
  return {.code = only_time ? ErrorCode::kUnavailable : ErrorCode::kConflict,
          .cause = cause_of(refused.cause, row.name, site),
          .effect = std::move(effect),
          .mend = mend_of(refused, row.name, site)};
}

}  // namespace hf::control
