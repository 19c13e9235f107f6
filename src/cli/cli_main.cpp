namespace hf::cli {
int run(int argc, char** argv);
}

int main(int argc, char** argv) { return hf::cli::run(argc, argv); }
