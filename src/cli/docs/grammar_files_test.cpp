// What is made from the grammar, judged by those who read it: the shells and the formatters.
#include "cli/docs/grammar_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cli/core/programs.h"

namespace hf::cli {
namespace {

// An installation, with a `holdfast` that lists two VMs and a site.
class Installed : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(root_.data()), nullptr);
    for (const GrammarFile& file : files_) {
      const std::filesystem::path path = root_ + "/" + file.path;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path) << file.text;
    }
    std::filesystem::create_directories(root_ + "/bin");
    std::ofstream(root_ + "/bin/holdfast")
        << "#!/bin/sh\n"
           "echo \"$@\" >> " +
               root_ +
               "/asked\n"
               "case \"$*\" in\n"
               "*'vm list') echo NAME STATE; echo Web.1 running; echo db off;;\n"
               "*'site peers') echo NAME ADDRESS; echo south x;;\n"
               "esac\n";
    std::filesystem::permissions(root_ + "/bin/holdfast", std::filesystem::perms(0755));
    std::filesystem::create_directories(root_ + "/work/sub");
    std::ofstream(root_ + "/work/disk.raw").close();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  static bool there(const std::string& program) {
    return std::filesystem::exists("/usr/bin/" + program) ||
           std::filesystem::exists("/bin/" + program);
  }
  // In the directory "work", with `line` as $1.
  Finished run(const std::string& shell, const std::vector<std::string>& flags,
               const std::string& script, const std::string& line) const {
    std::vector<std::string> argv{"/usr/bin/env",
                                  "-C",
                                  root_ + "/work",
                                  "HOME=" + root_,
                                  "LC_ALL=C.UTF-8",
                                  "PATH=" + root_ + "/bin:/usr/bin:/bin",
                                  shell};
    argv.insert(argv.end(), flags.begin(), flags.end());
    argv.insert(argv.end(), {"-c", script});
    if (shell == "bash" || shell == "zsh") argv.emplace_back(shell);
    argv.push_back(line);
    const Result<Finished> done = run_program(argv, ::geteuid());
    HF_ASSERT(done.ok());
    return *done;
  }
  std::string file(const std::string& path) const { return root_ + "/" + path; }

  std::vector<GrammarFile> files_ = grammar_files("2026-11-28");
  std::string root_ = "/tmp/holdfast-grammar-XXXXXX";
};

struct Case {
  std::string line;
  std::vector<std::string> offered;
  std::vector<std::string> not_offered;
};

std::vector<Case> cases() {
  return {
      {"holdfast ", {"site", "vm", "secure-boot"}, {"create", "--state", "disk.raw"}},
      {"holdfast v", {"vm"}, {"site"}},
      {"holdfast vm ", {"create", "start", "console"}, {"vm", "pair"}},
      {"holdfast -o json vm st", {"start", "stop"}, {"create"}},
      {"holdfast vm create web --", {"--memory", "--disk", "--state", "--output"}, {"--force"}},
      {"holdfast vm create web --vtpm ", {"on", "off"}, {"disk.raw"}},
      {"holdfast vm create web --disk ", {"disk.raw", "sub"}, {"on", "Web.1"}},
      {"holdfast vm start ", {"Web.1", "db"}, {"disk.raw", "start"}},
      {"holdfast vm start --without-peer d", {"db"}, {"Web.1"}},
      {"holdfast protection enable db --to ", {"south"}, {"db"}},
      {"holdfast attest baseline ", {"diff", "accept"}, {"baseline", "show me"}},
      {"holdfast secure-boot show ", {"db", "disk.raw"}, {"south"}},
      {"holdfast --output ", {"table", "json"}, {"vm"}},
      {"holdfast --state ", {"sub"}, {"disk.raw", "vm"}},
  };
}

bool has_line(const std::string& text, const std::string& word) {
  return ("\n" + text).contains("\n" + word + "\n");
}

void judge(const Case& one, const Finished& done) {
  SCOPED_TRACE(one.line);
  EXPECT_EQ(done.errors, "");
  for (const std::string& word : one.offered) {
    EXPECT_TRUE(has_line(done.output, word)) << word << " in " << done.output;
  }
  for (const std::string& word : one.not_offered) {
    EXPECT_FALSE(has_line(done.output, word)) << word << " in " << done.output;
  }
}

TEST_F(Installed, bash_completes_commands_options_and_names) {
  const std::string script =
      "source " + file("share/bash-completion/completions/holdfast") + R"script(
COMP_LINE=$1
read -ra COMP_WORDS <<< "$1"
[[ $1 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_holdfast
printf '%s\n' "${COMPREPLY[@]}"
)script";
  for (const Case& one : cases()) judge(one, run("bash", {"--norc"}, script, one.line));
  // readline's words.
  judge({"holdfast vm create web --vtpm = o", {"on", "off"}, {}},
        run("bash", {"--norc"}, script, "holdfast vm create web --vtpm = o"));
  run("bash", {"--norc"}, script, "holdfast --state /srv/hf vm start ");
  std::ifstream asked(file("asked"));
  std::string all((std::istreambuf_iterator<char>(asked)), {});
  EXPECT_TRUE(all.contains("--state /srv/hf -q vm list\n")) << all;
}

TEST_F(Installed, fish_completes_commands_options_and_names) {
  if (!there("fish")) GTEST_SKIP() << "fish is not installed";
  const std::string script =
      "source " + file("share/fish/vendor_completions.d/holdfast.fish") +
      "; complete -C $argv[1] | string replace -r '\\t.*' '' | string replace "
      "-r '/$' ''";
  for (const Case& one : cases()) judge(one, run("fish", {"--no-config"}, script, one.line));
  judge({"--vtpm=", {"--vtpm=on", "--vtpm=off"}, {}},
        run("fish", {"--no-config"}, script, "holdfast vm create web --vtpm="));
}

// Its completion works in its line editor only; what it would offer is caught where it is handed
// over.
TEST_F(Installed, zsh_completes_commands_options_and_names) {
  if (!there("zsh")) GTEST_SKIP() << "zsh is not installed";
  const std::string script = "fpath=(" + file("share/zsh/site-functions") + R"script( $fpath)
autoload -Uz compinit && compinit -D -u
[[ ${_comps[holdfast]} == _holdfast ]] || print -u2 "not found by its name"
compadd() { [[ $1 == -a ]] && { print -l -- ${(P)2} | grep -- "^$PREFIX"; return }; [[ $1 == -- ]] && shift; print -l -- "$@" }
compset() { : }
_describe() { print -l -- ${(P)@[-1]%%:*} | grep -- "^${words[CURRENT]}" }
_files() { if [[ $1 == -/ ]]; then print -l -- *(/); else print -l -- *; fi }
words=(${(z)1})
[[ $1 == *' ' ]] && words+=('')
CURRENT=$#words PREFIX=${words[-1]}
_holdfast
)script";
  for (const Case& one : cases()) judge(one, run("zsh", {"-f"}, script, one.line));
}

TEST_F(Installed, man_pages_are_taken_by_the_formatters) {
  size_t pages = 0;
  for (const GrammarFile& page : files_) {
    if (!page.path.ends_with(".1")) continue;
    SCOPED_TRACE(page.path);
    ++pages;
    if (there("mandoc")) {
      const Result<Finished> lint =
          run_program({"/usr/bin/mandoc", "-Tlint", "-Wwarning", file(page.path)}, ::geteuid());
      ASSERT_TRUE(lint.ok());
      EXPECT_EQ(lint->output + lint->errors, "");
    }
    if (there("groff")) {
      const Result<Finished> made = run_program(
          {"/usr/bin/groff", "-man", "-Tutf8", "-ww", "-b", "-z", file(page.path)}, ::geteuid());
      ASSERT_TRUE(made.ok());
      EXPECT_EQ(made->output + made->errors, "");
    }
    if (there("man")) {
      const Result<Finished> shown = run_program({"/usr/bin/env", "MANROFFSEQ=", "MANWIDTH=80",
                                                  "man", "--warnings", "-l", file(page.path)},
                                                 ::geteuid());
      ASSERT_TRUE(shown.ok());
      EXPECT_EQ(shown->errors, "");
      EXPECT_EQ(shown->status, 0);
      EXPECT_TRUE(shown->output.contains("NAME")) << shown->output;
    }
  }
  EXPECT_GE(pages, 10U);
}

TEST(ManPages, have_every_command_with_its_options) {
  std::string all;
  for (const GrammarFile& file : grammar_files("2026-11-28")) {
    if (file.path.ends_with(".1")) all += file.text;
  }
  for (const char* text :
       {"\\fBholdfast vm create\\fR \\fINAME\\fR [\\fB\\-\\-disk\\fR \\fIFILE\\fR]",
        ".SS attest baseline diff\n", "(default: 127.0.0.1:7443)", "\\fBHOLDFAST_STATE\\fR",
        "\\fB\\-\\-attestation\\fR \\fInone|wait|require\\fR", ".SH EXIT STATUS"}) {
    EXPECT_TRUE(all.contains(text)) << text;
  }
}

}  // namespace
}  // namespace hf::cli
